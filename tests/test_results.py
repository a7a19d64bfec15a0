"Results files and the one door to a model: pycocotools' own numbers, or one sentence."
import contextlib
import io
import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pix2seq import coco, export
from pix2seq.average_precision import class_figures, coco_eval, coco_figures, figures_of
from pix2seq.commands import main
from pix2seq.data import CocoDataset
from pix2seq.digits import DigitScenes
from pix2seq.evaluation import check_dataset, check_targets, detect_dataset, evaluate
from pix2seq.model import Pix2Seq
from pix2seq.official import OFFICIAL, convert
from pix2seq.pretrained import find_model, load_model
from pix2seq.results import coco_results, load_results, save_results

CATEGORIES = (3, 7, 20)


def boxes_of(rng:random.Random, count:int) -> list[list[float]]: # inside 100 x 80, two decimals
    most = (0, 60), (0, 50), (4, 39), (4, 29)
    return [[round(rng.uniform(*ends), 2) for ends in most] for _ in range(count)]


def write_data(root:Path, ids:list, seed:int=0, crowds:float=.1) -> CocoDataset:
    "A small data set, its images in the order of `ids`."
    rng, images, rows = random.Random(seed), [], []
    (root/'val').mkdir()
    for k, i in enumerate(ids):
        Image.new('RGB', (100, 80)).save(root/'val'/f'{k:03}.jpg')
        images.append(dict(id=i, file_name=f'{k:03}.jpg', width=100, height=80))
        rows += [dict(id=len(rows) + n, image_id=i, category_id=rng.choice(CATEGORIES), bbox=box,
                      area=box[2]*box[3]*.7, iscrowd=int(rng.random() < crowds))
                 for n, box in enumerate(boxes_of(rng, rng.randint(0, 6)), 1)]
    categories = [dict(id=c, name=f'kind {c}') for c in CATEGORIES]
    content = dict(images=images, annotations=rows, categories=categories)
    (root/'val.json').write_text(json.dumps(content))
    return CocoDataset(root/'val', root/'val.json')


def some_results(dataset:CocoDataset, seed:int=1, extra:int=20, digits:int|None=None) -> list[dict]:
    "Near the truth, with as many scores as `digits` allow."
    rng = random.Random(seed)
    truth = json.loads(dataset.path.read_text())
    found = [(a['image_id'], a['category_id'], [v + rng.uniform(-2, 2) for v in a['bbox']])
             for a in truth['annotations']*2]
    found += [(image['id'], rng.choice(CATEGORIES), box) for image in truth['images']
              for box in boxes_of(rng, extra)]
    return [dict(image_id=i, category_id=c, bbox=box, score=round(rng.random(), digits) if digits
                 else rng.random()) for i, c, box in found]


def theirs(annotations:Path, results:Path, **params) -> COCOeval:
    "pycocotools alone, from the two files."
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        judge = COCOeval(truth, truth.loadRes(str(results)), 'bbox')
        for name, value in params.items(): setattr(judge.params, name, value)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


@pytest.fixture
def data(tmp_path): return write_data(tmp_path, [9, 4, 11, 2, 30, 7, 1, 25])


@pytest.fixture
def results(data, tmp_path):
    save_results(some_results(data), tmp_path/'results.json')
    return tmp_path/'results.json'


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs): raise OSError('no network')
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    monkeypatch.setattr(socket, 'create_connection', refuse)


@pytest.mark.parametrize('ids', [[9, 4, 11, 2, 30, 7], ['b', 'a/1', 'ü', 'c', 'Z', '10'], [5]])
def test_figures_are_pycocotools(tmp_path, ids):
    data = write_data(tmp_path, ids)
    save_results(some_results(data), tmp_path/'results.json')
    figures = coco_figures(*load_results(tmp_path/'results.json', data))
    assert list(figures.values()) == theirs(data.path, tmp_path/'results.json').stats.tolist()
    assert 0 < figures['AP'] < 1


def test_tied_scores_count_in_the_order_of_the_ids(data, tmp_path):
    save_results(some_results(data, digits=1), tmp_path/'ties.json')
    figures = coco_figures(*load_results(tmp_path/'ties.json', data))
    assert list(figures.values()) == theirs(data.path, tmp_path/'ties.json').stats.tolist()


@pytest.mark.parametrize('most', [1, 5, 20, 300])
def test_any_number_of_detections(data, results, most):
    found = coco_eval(*load_results(results, data), max_dets=most)
    judge = theirs(data.path, results, maxDets=[1, min(10, most), most])
    precision = judge.eval['precision'][..., 0, -1]
    figures = figures_of(found)
    assert figures['AP'] == precision[precision > -1].mean()
    assert figures[f'AR{most}'] == judge.stats[8] and figures['AP50'] == judge.stats[1]
    assert list(figures)[-3:] == ['ARs', 'ARm', 'ARl']


def test_figures_by_class(data, results):
    rows = class_figures(coco_eval(*load_results(results, data)), data.class_names)
    assert [row['name'] for row in rows] == list(data.class_names)
    truth = json.loads(data.path.read_text())['annotations']
    for row, category in zip(rows, CATEGORIES):
        judge = theirs(data.path, results, catIds=[category])
        assert [row['AP'], row['AP50']] == judge.stats[:2].tolist()
        assert row['boxes'] == sum(a['category_id'] == category and not a['iscrowd'] for a in truth)


def test_written_results_are_the_detections(tmp_path):
    "A model's detections, scored directly, from the file, and by pycocotools."
    scenes = DigitScenes('val', 6)
    model = Pix2Seq.from_pretrained('digits')
    detections, targets = detect_dataset(model, scenes)
    (tmp_path/'images').mkdir()
    rows = [dict(id=n*100 + k, image_id=n, category_id=int(label) + 1, iscrowd=0, area=float(w*h),
                 bbox=[float(x), float(y), float(w), float(h)])
            for n, t in enumerate(targets) for k, (label, (x, y, x2, y2)) in
            enumerate(zip(t['labels'], t['boxes'].tolist()), 1) for w, h in [(x2 - x, y2 - y)]]
    images = [dict(id=n, file_name=f'{n}.png', width=96, height=96) for n in range(6)]
    for n in range(6): Image.new('RGB', (96, 96)).save(tmp_path/'images'/f'{n}.png')
    categories = [dict(id=i + 1, name=str(i)) for i in range(10)]
    content = dict(images=images, annotations=rows, categories=categories)
    (tmp_path/'a.json').write_text(json.dumps(content))
    data = CocoDataset(tmp_path/'images', tmp_path/'a.json')
    written = [row for d, t in zip(detections, targets)
               for row in coco_results(d, t['image_id'], data.category_ids)]
    file = tmp_path/'results.json'
    save_results(written, file)
    direct = coco_figures(detections, targets)
    assert direct == coco_figures(*load_results(file, data))
    assert list(direct.values()) == theirs(data.path, file).stats.tolist()


def test_every_digit_is_written(tmp_path):
    objects = dict(boxes=torch.tensor([[1/3, 2/3, 10.123456, 20.]]), labels=torch.tensor([1]),
                   scores=torch.tensor([.123456789]))
    save_results(coco_results(objects, 'a', (4, 5)), tmp_path/'r.json')
    [row] = json.loads((tmp_path/'r.json').read_text())
    x, y, x2, y2 = objects['boxes'][0].double().tolist()
    assert row == dict(image_id='a', category_id=5, bbox=[x, y, x2 - x, y2 - y],
                       score=objects['scores'][0].item())


def test_nothing_found_is_zero_and_a_part_is_a_part(data, results, tmp_path):
    save_results([], tmp_path/'none.json')
    assert coco_figures(*load_results(tmp_path/'none.json', data))['AP'] == 0
    detections, targets = load_results(results, data, 3)
    assert [t['image_id'] for t in targets] == [9, 4, 11] and len(detections) == 3
    judge = theirs(data.path, results, imgIds=[9, 4, 11])
    assert list(coco_figures(detections, targets).values()) == judge.stats.tolist()


ROW = dict(image_id=9, category_id=3, bbox=[1, 2, 3, 4], score=.5)


@pytest.mark.parametrize('change, sentence', [
    (dict(image_id='000.jpg'), "row 2 has the image_id '000.jpg', which {} does not list; "
                               "it is the name of a file, and that image has the id 9"),
    (dict(image_id='002'), 'that image has the id 11'),
    (dict(image_id=99), 'row 2 has the image_id 99, which {} does not list; its first id is 9'),
    (dict(image_id='9'), "image_id '9', which {} does not list; its first id is 9"),
    (dict(image_id=[9]), 'image_id [9]'), (dict(image_id=True), 'image_id True'),
    (dict(category_id=1), 'row 2 has the category_id 1, which {} does not list; it has 3, 7, 20'),
    (dict(score=float('nan')), 'row 2 has the score nan; expected a finite number'),
    (dict(score='0.5'), "the score '0.5'"),
    (dict(bbox=[1, 2, 3, float('inf')]), 'bbox [1, 2, 3, inf]'),
    (dict(bbox=[1, 2, 3]), 'expected finite [x, y, width, height]'),
    (dict(bbox=[1, 2, -3, 4]), 'below 0'),
    (dict(bbox=None), 'the bbox None')])
def test_a_row_that_does_not_fit_is_named(data, tmp_path, change, sentence):
    (tmp_path/'r.json').write_text(json.dumps([ROW, ROW | change]))
    with pytest.raises(ValueError) as e: load_results(tmp_path/'r.json', data)
    assert sentence.format(data.path) in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('content, sentence', [
    ('{', 'is not valid JSON'), ('{"annotations": []}', 'holds annotations; expected a list'),
    ('3', 'holds no list; expected a list'), ('["a"]', "row 1 is 'a'; expected a dictionary"),
    ('[{"image_id": 9, "category_id": 3, "score": 1, "segmentation": []}]', "row 1 has no 'bbox'")])
def test_what_is_no_results_file(data, tmp_path, content, sentence):
    (tmp_path/'r.json').write_text(content)
    with pytest.raises(ValueError, match=sentence): load_results(tmp_path/'r.json', data)
    with pytest.raises(FileNotFoundError, match='no.json does not exist'):
        load_results(tmp_path/'no.json', data)


def test_saving_loses_nothing(data, results):
    before = results.read_bytes(), data.path.read_bytes()
    nan = ROW | dict(score=float('nan'))
    with pytest.raises(ValueError, match='not finite'): save_results([nan], results)
    with pytest.raises(ValueError, match='is not a results file'): save_results([ROW], data.path)
    assert (results.read_bytes(), data.path.read_bytes()) == before
    assert not list(results.parent.glob('*.part'))


def changed(data:CocoDataset, **lists) -> CocoDataset: # the data set with other lists
    path = data.path.with_name('changed.json')
    path.write_text(json.dumps(json.loads(data.path.read_text()) | lists))
    return CocoDataset(data.images, path)


def test_nothing_to_score_is_refused(data):
    model = Pix2Seq.from_pretrained('digits')
    rows = json.loads(data.path.read_text())['annotations']
    crowds = [a | dict(iscrowd=1) for a in rows]
    with pytest.raises(ValueError, match='8 images hold no box to find'):
        evaluate(model, changed(data, annotations=[]))
    with pytest.raises(ValueError, match=f'their {len(rows)} boxes are crowds'):
        evaluate(model, changed(data, annotations=crowds))
    for file in data.images.iterdir(): file.write_bytes(b'')
    with pytest.warns(UserWarning, match='8 of 8 images'):
        with pytest.raises(ValueError, match='no image was read'): evaluate(model, data)
    with pytest.raises(ValueError, match='no image was read'): evaluate(model, data, 0)
    with pytest.raises(ValueError, match='no image was read'): check_targets([])


def test_lvis_rules_are_not_applied(data):
    images = [image | dict(neg_category_ids=[3], not_exhaustive_category_ids=[])
              for image in json.loads(data.path.read_text())['images']]
    check_dataset(data)
    with pytest.raises(ValueError, match="LVIS's rules, which are not applied.*--out-detections"):
        check_dataset(changed(data, images=images))


def test_results_for_a_folder_of_text_files(tmp_path):
    "YOLO's layout, whose annotations are no JSON file."
    for split in ('train', 'val'):
        for folder in ('images', 'labels'): (tmp_path/folder/split).mkdir(parents=True)
        Image.new('RGB', (64, 48)).save(tmp_path/'images'/split/'a.png')
        (tmp_path/'labels'/split/'a.txt').write_text('1 0.5 0.5 0.25 0.5\n')
    (tmp_path/'data.yaml').write_text('train: images/train\nval: images/val\nnames: [cat, dog]\n')
    data = CocoDataset.from_folder(tmp_path, 'val')
    check_dataset(data)
    found = dict(boxes=data.boxes, labels=data.labels, scores=torch.ones(1))
    save_results(coco_results(found, data.image_id(0), data.category_ids), tmp_path/'r.json')
    figures = coco_figures(*load_results(tmp_path/'r.json', data))
    assert figures['AP'] == pytest.approx(1)


def test_evaluation_is_cheap_to_import():
    late = 'accelerate', 'pycocotools', 'sklearn', 'scipy'
    script = f'import sys, pix2seq.evaluation; print(*[m for m in {late} if m in sys.modules])'
    imported = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                              check=True)
    assert imported.stdout.split() == []


@pytest.fixture
def place(tmp_path, monkeypatch):
    "A folder to stand in, with a saved model and a run."
    monkeypatch.chdir(tmp_path)
    model = Pix2Seq.from_pretrained('digits')
    model.save_pretrained('my/model')
    model.save_pretrained('runs/first/checkpoint')
    Path('runs/first/config.json').write_text('{"out": "runs/first"}')
    return model


@pytest.mark.parametrize('name', ['digits', 'my/model', './my/model/', 'runs/first',
                                  'runs/first/checkpoint'])
def test_one_door(place, name, no_network):
    model = load_model(name)
    assert torch.equal(model.token_embedding, place.token_embedding) and not model.training
    assert find_model(name).options == {}


@pytest.mark.parametrize('name, near', [
    ('digts', 'digits'), ('Digits', 'digits'), ('my/modle', 'my/model'), ('./my/modle', 'my/model'),
    ('runs/frist', 'runs/first'), ('rusn/first/checkpoint', 'runs/first'),
    ('coco-resnet50-64', 'coco-resnet50-640'), ('coco-vit-l-1333', 'coco-vit_l-1333'),
    ('resnet50', 'obj365-resnet50-640')])
def test_a_slip_is_answered_at_once(place, monkeypatch, name, near):
    def wall(*args, **kwargs): raise AssertionError('this asked the network')
    monkeypatch.setattr(socket, 'socket', wall)
    start = time.perf_counter()
    with pytest.raises(FileNotFoundError) as e: load_model(name)
    assert near in str(e.value).partition('near it: ')[2] and time.perf_counter() - start < 1


@pytest.mark.parametrize('name, sentence', [
    ('', 'has a name'), (None, 'this is None'),
    ('my', 'my holds no model.*there is one in my/model'),
    ('my/model/config.json', 'is a file; expected a model.s folder, here my/model'),
    ('/no/such/model', 'there is no model'), ('~/no/model', 'there is no model'),
    ('a/b/c', 'there is no model'), ('zzzzzzzz', 'expected digits')])
def test_what_names_no_model(place, no_network, name, sentence):
    with pytest.raises((ValueError, OSError), match=sentence): load_model(name)


def test_offline_says_what_whence_and_where(place, no_network, monkeypatch):
    monkeypatch.setenv('PIX2SEQ_CACHE', str(Path('cache').absolute()))
    start = time.perf_counter()
    with pytest.raises(OSError) as e: load_model('owner/name')
    said = str(e.value)
    assert 'owner/name/resolve/main/config.json' in said
    assert str(Path('owner/name').absolute()) in said
    with pytest.raises(OSError) as e: load_model('run/first')
    assert 'near it: runs/first' in str(e.value)
    with pytest.raises(ConnectionError) as e: load_model('coco-resnet50-640')
    url = f'https://storage.googleapis.com/pix2seq/{OFFICIAL["coco-resnet50-640"]}/checkpoint'
    kept = Path('cache').absolute()/OFFICIAL['coco-resnet50-640']
    assert url in str(e.value) and str(kept) in str(e.value)
    assert time.perf_counter() - start < 5
    place.save_pretrained('owner/name')                                         # by hand
    assert torch.equal(load_model('owner/name').token_embedding, place.token_embedding)


def test_options_for_the_hub_alone(place):
    with pytest.raises(ValueError, match='revision: for models on the hub only'):
        load_model('my/model', revision='v2')
    assert find_model('coco-resnet50-640').options == dict(constrained=False)


def test_export_without_its_extra(place, monkeypatch):
    monkeypatch.setattr(export, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'pix2seq\[export\]'"):
        export.export_model(place, 'out')
    assert not Path('out').exists()


def test_export_writes_json(place):
    export.export_model(place, 'out', ('torch',), num_objects=1)
    with open('out/config.json', encoding='utf-8') as file: fields = json.load(file)
    assert fields['vocab_size'] == 207


@pytest.mark.parametrize('args, sentence', [
    (('nowhere', 'new'), 'neither a published model'), (('', 'new'), 'has a name'),
    (('my/model', 'new'), 'library already'), (('coco-resnet50-640', 'my'), 'is not empty'),
    (('coco-resnet50-640', 'my/model/config.json'), 'is a file'),
    (('coco-resnet50-640', ''), 'must name a folder'),
    (('coco-resnet50-640', 'new', 'resnet5'), 'near it: resnet50'),
    (('coco-resnet50-640', 'new', None, -1), 'image_size must be')])
def test_convert_refuses_before_it_fetches(place, no_network, args, sentence):
    with pytest.raises((ValueError, OSError), match=sentence): convert(*args)
    assert not Path('new').exists()


def test_coco_offline_and_by_hand(tmp_path, no_network, monkeypatch):
    monkeypatch.setenv('PIX2SEQ_COCO', 'http://images.example')
    monkeypatch.setattr(coco, '_check_space', lambda root, parts: None)
    with pytest.raises(ConnectionError) as e: coco.get_coco(root=tmp_path/'coco')
    assert 'http://images.example/annotations/annotations_trainval2017.zip' in str(e.value)
    assert str(tmp_path/'coco'/'annotations_trainval2017.zip') in str(e.value)
    (tmp_path/'file').write_text('')
    with pytest.raises(OSError, match='is a file; expected a folder'):
        coco.get_coco(root=tmp_path/'file')


def test_a_file_in_the_place_of_results_is_refused_before_reading(tmp_path, monkeypatch, capsys):
    place = tmp_path/'notes.json'
    place.write_text('{"mine": 1}')
    monkeypatch.setattr('pix2seq.evaluation.detect_dataset', lambda *args, **options: pytest.fail())
    assert main(['eval', '--out-detections', str(place)])
    assert 'notes.json exists and is not a results file' in capsys.readouterr().err
    assert place.read_text() == '{"mine": 1}'
