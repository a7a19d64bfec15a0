"Classes, limits and data of a run: weights of other data, and data that cannot teach or changed."
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pix2seq.checkpoint import is_whole
from pix2seq.detector import Detector
from pix2seq.images import read_image
from pix2seq.model import Pix2Seq
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.run_setup import build
from pix2seq.train_config import TrainConfig, check_config, check_given, flag
from pix2seq.training import Trainer
from pix2seq.transfer import other_classes
from pix2seq.watching import read_metrics

TINY = dict(backbone='vit', patch_size=16, encoder_dim=32, encoder_mlp_dim=64, encoder_heads=2,
            decoder_layers=1, decoder_dim=32, decoder_mlp_dim=64, decoder_heads=2)
SHORT = dict(steps=4, batch_size=2, warmup_steps=1, eval_every=0, eval_images=8, workers=0,
             log_every=1, save_every=2, model=TINY)
ANIMALS = ((1, 'cat'), (2, 'dog'), (3, 'owl'), (4, 'fox'), (5, 'bee'))


def write_split(root:Path, split:str, classes=ANIMALS, images:int=6, objects:int=2) -> None:
    "Pictures of rectangles in a folder, and their boxes in COCO's format."
    rng, rows, boxes = random.Random(split), [], []
    (root/split).mkdir(parents=True, exist_ok=True)
    (root/'annotations').mkdir(exist_ok=True)
    for i in range(images):
        picture = Image.new('RGB', (64, 48), (60, 70, 80))
        rows.append(dict(id=i + 1, file_name=f'{i:03}.png', width=64, height=48))
        for k in range(objects):
            x, y = rng.randint(0, 40), rng.randint(0, 30)
            w, h = rng.randint(8, 20), rng.randint(8, 16)
            corners = [x, y, x + w - 1, y + h - 1]
            ImageDraw.Draw(picture).rectangle(corners, fill=(200, 30*k % 250, 90))
            label = classes[(i*objects + k) % len(classes)][0]
            boxes.append(dict(id=len(boxes) + 1, image_id=i + 1, category_id=label,
                              bbox=[x, y, w, h], area=w*h, iscrowd=0))
        picture.save(root/split/f'{i:03}.png')
    categories = [dict(id=i, name=name) for i, name in classes]
    content = dict(images=rows, annotations=boxes, categories=categories)
    (root/'annotations'/f'{split}.json').write_text(json.dumps(content), encoding='utf-8')


def write_data(root:Path, **how) -> str:
    "Training and validation images."
    for split in ('train', 'val'): write_split(root, split, **how)
    return str(root)


def change(root:str, split:str, edit) -> None:
    "Edit the annotations of a split in place."
    path = Path(root)/'annotations'/f'{split}.json'
    content = json.loads(path.read_text(encoding='utf-8'))
    edit(content)
    path.write_text(json.dumps(content), encoding='utf-8')


def exchange_names(content:dict) -> None:
    first, second = content['categories'][:2]
    first['name'], second['name'] = second['name'], first['name']


def swap_sizes(content:dict) -> None:
    for row in content['images']: row['width'], row['height'] = row['height'], row['width']


def only_crowds(content:dict) -> None:
    for row in content['annotations']: row['iscrowd'] = 1


def without_boxes(content:dict) -> None: content['annotations'] = []


def saved_model(folder:Path, **fields) -> tuple[str,Pix2Seq]:
    "A small model, saved as weights to start from."
    torch.manual_seed(1)
    model = Pix2Seq(Pix2SeqConfig.from_name('digits', **TINY | fields))
    model.save_pretrained(folder)
    return str(folder), model


def opened(**options) -> tuple[Pix2Seq,object,object,str]:
    "What `build` makes and says."
    said = []
    return *build(TrainConfig(**options), said.append), '\n'.join(said)


def same_coordinates(before:Pix2Seq, after:Pix2Seq) -> bool:
    "Does every box read the embedding rows that it read before?"
    boxes, labels = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(20)
    a, b = (m.config.tokenizer().encode(boxes, labels).view(-1, 5)[:, :4] for m in (before, after))
    return all(torch.equal(getattr(before, name)[a], getattr(after, name)[b])
               for name in ('token_embedding', 'output_bias'))


def class_row(model:Pix2Seq, name:str) -> torch.Tensor:
    "The embedding of a class."
    return model.token_embedding[model.config.class_offset + model.config.class_names.index(name)]


def test_weights_keep_their_labels_where_id_and_name_agree(tmp_path):
    "Part of the digits, in another order: the labels of the weights, and every tensor as it was."
    data = write_data(tmp_path/'d', classes=((8, '7'), (1, '0'), (4, ' 3 ')))
    before = Pix2Seq.from_pretrained('digits')
    model, train, val, said = opened(data=data, weights='digits')
    assert model.config == before.config and 'kept 197 tensors of digits' in said
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.state_dict().items())
    assert set(train.labels.tolist()) == {0, 3, 7} and train.class_names == val.class_names


def test_same_ids_named_otherwise_are_new_classes(tmp_path):
    "The digits know ids 1..10; ids 1..5 are animals here."
    model, train, _, said = opened(data=write_data(tmp_path/'d'), weights='digits')
    assert model.config.class_names == ('cat', 'dog', 'owl', 'fox', 'bee')
    assert model.config.category_ids == (1, 2, 3, 4, 5)
    assert "class 1 is 'cat', and '0' in the weights" in said
    assert '0 of 5 classes by name, 5 new (cat, dog, owl, …)' in said
    assert same_coordinates(Pix2Seq.from_pretrained('digits'), model)


def test_one_name_that_differs_is_enough(tmp_path):
    "Nine digits agree and one does not: new classes, but nine rows move."
    classes = tuple((k + 1, str(k)) for k in range(9)) + ((10, 'ten'),)
    before = Pix2Seq.from_pretrained('digits')
    model, _, _, said = opened(data=write_data(tmp_path/'d', classes=classes), weights='digits')
    assert model.config.class_names[9] == 'ten' and '9 of 10 classes by name, 1 new (ten)' in said
    assert all(torch.equal(class_row(model, str(k)), class_row(before, str(k))) for k in range(9))
    assert not torch.equal(class_row(model, 'ten'), class_row(before, '9'))


def test_coco_weights_and_five_other_classes(tmp_path):
    "Weights that know the ids 0..90, and data with 1..5: id 2 is a bicycle there, and a dog here."
    some = {1: 'person', 2: 'bicycle', 3: 'car', 18: 'dog'}
    names = tuple(some.get(i, f'thing {i}') for i in range(91))
    folder, before = saved_model(tmp_path/'w', num_classes=91, class_names=names, coord_offset=200,
                                 category_ids=tuple(range(91)), vocab_size=300)
    model, _, _, said = opened(data=write_data(tmp_path/'d'), weights=folder)
    assert model.config.class_names == ('cat', 'dog', 'owl', 'fox', 'bee')
    assert torch.equal(class_row(model, 'dog'), class_row(before, 'dog'))
    assert '1 of 5 classes by name, 4 new (cat, owl, fox, …)' in said
    assert same_coordinates(before, model)


def test_objects365_weights_and_coco(tmp_path):
    "The paper's recipe: ids 1..365 of one data set and 1..90 of the other, few of them the same."
    folder, before = saved_model(tmp_path/'w', num_classes=365, coord_offset=465, vocab_size=562,
                                 class_names=('Person', *(f'o{i}' for i in range(363)), 'CAT '),
                                 category_ids=tuple(range(1, 366)))
    data = write_data(tmp_path/'d', classes=((1, 'person'), (2, 'bicycle'), (17, 'cat')))
    model, _, _, said = opened(data=data, weights=folder)
    assert model.config.class_names == ('person', 'bicycle', 'cat')
    assert '2 of 3 classes by name, 1 new (bicycle)' in said and same_coordinates(before, model)
    assert torch.equal(class_row(model, 'cat'), class_row(before, 'CAT '))


def test_weights_without_names_decide_by_id_and_get_names(tmp_path):
    "Ids alone agree: the model gets the data's names. An id too many: new classes, rows by id."
    folder, before = saved_model(tmp_path/'w', class_names=None, category_ids=tuple(range(1, 11)))
    model, _, _, said = opened(data=write_data(tmp_path/'d'), weights=folder)
    assert model.config.category_ids == tuple(range(1, 11)) and 'kept' in said and 'new' not in said
    assert model.config.class_names[:5] == ('cat', 'dog', 'owl', 'fox', 'bee')
    assert torch.equal(model.token_embedding, before.token_embedding)
    data = write_data(tmp_path/'e', classes=((5, 'bee'), (11, 'ant')))
    model, _, _, said = opened(data=data, weights=folder)
    assert '1 of 2 classes by id, 1 new (ant)' in said
    assert torch.equal(model.token_embedding[100], before.token_embedding[104])


def test_the_digits_do_not_take_the_labels_of_other_weights(tmp_path):
    "The embedded digits, from weights that know animals: ten classes of their own."
    folder, before = saved_model(tmp_path/'w', class_names=tuple('abcdefghij'))
    model, _, _, said = opened(weights=folder)
    assert model.config.class_names == tuple('0123456789') and "and 'a' in the weights" in said
    assert same_coordinates(before, model)


def test_by_name_keeps_the_labels_of_other_ids(tmp_path):
    "The same names under other ids: kept with by_name; without it, new classes with the same rows."
    data = write_data(tmp_path/'d', classes=((40, '7'), (50, '3')))
    before = Pix2Seq.from_pretrained('digits')
    model, train, _, _ = opened(data=data, weights='digits', by_name=True)
    assert model.config == before.config and set(train.labels.tolist()) == {3, 7}
    model, train, _, said = opened(data=data, weights='digits')
    assert model.config.class_names == ('7', '3') and '2 of 2 classes by name' in said
    assert torch.equal(class_row(model, '7'), class_row(before, '7'))


@pytest.mark.parametrize('room', (0, 100))
def test_more_classes_than_fit(tmp_path, room):
    "Coordinates move to make room, in a tight vocabulary and in a roomy one."
    folder, before = saved_model(tmp_path/'w', vocab_size=207 + room)
    data = write_data(tmp_path/'d', classes=tuple((100 + k, f'c{k}') for k in range(20)), images=10)
    model, _, _, said = opened(data=data, weights=folder)
    assert (model.config.coord_offset, model.config.vocab_size) == (120, max(217, 207 + room))
    assert 'coordinates moved from 110 to 120' in said and same_coordinates(before, model)
    special = [0, 10, 30]
    assert torch.equal(model.token_embedding[special], before.token_embedding[special])


def test_more_objects_than_the_weights_know(tmp_path):
    "The limits follow the data, unless they are given; positions are kept, and new ones made."
    data = write_data(tmp_path/'d', objects=13)
    *_, said = opened(data=data, model=dict(max_instances=8))
    assert '6 of 6 images have more than 8 objects' in said and 'set max_instances to 13' in said
    before = Pix2Seq.from_pretrained('digits')
    model, _, _, said = opened(data=data, weights='digits')
    assert 'raised for these data: --model max_instances=13' in said
    assert 'have more than' not in said and 'positions 40 -> 65' in said
    model, _, _, said = opened(data=data, weights='digits', model=dict(max_instances=32))
    assert 'have more than' not in said and 'positions 40 -> 160' in said
    assert model.position_embedding.shape == (160, 128)
    assert torch.equal(model.position_embedding[:40], before.position_embedding)
    with pytest.raises(ValueError, match='32 objects take 160 tokens, but .* positions for 40'):
        opened(data=data, weights='digits', model=dict(max_instances=32, max_seq_len=40))


def test_other_bins_are_interpolated(tmp_path):
    "Twice as fine: every other row is an old one, and those between are means of their neighbours."
    folder, before = saved_model(tmp_path/'w')
    model, _, _, said = opened(weights=folder, model=dict(quantization_bins=193))
    old, new = before.token_embedding[110:207], model.token_embedding[110:303]
    assert '97 bins interpolated to 193' in said
    torch.testing.assert_close(new[::2], old)
    torch.testing.assert_close(new[1::2], (old[1:] + old[:-1])/2)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    sentence = r'token_embedding is \[207, 128\], the model.s \[207, 64\]'
    with pytest.raises(ValueError, match=sentence):
        opened(weights='digits', model=dict(decoder_dim=64))


def test_options_without_effect_are_refused():
    with pytest.raises(ValueError, match='--preset has no effect with --weights: give only one'):
        build(TrainConfig(weights='digits', preset='resnet50'))
    for moot, name in (('steps', 'epochs'), ('warmup_steps', 'warmup_epochs'),
                       ('imagenet', 'weights'), ('train_json', 'data'), ('val_share', 'val_json')):
        with pytest.raises(ValueError, match=f'{flag(moot)} has no effect with {flag(name)}:'):
            check_given({moot, name, 'lr'})
    for moot in (dict(train_scenes=8), dict(unlabelled=.5)):
        with pytest.raises(ValueError, match='has no effect with --data x: it is an option of emb'):
            check_config(TrainConfig(data='x', **moot))
    check_given({'weights', 'epochs', 'data', 'val_share', 'lr'})


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match='set CUDA_VISIBLE_DEVICES=1'):
        check_config(TrainConfig(device='cuda:1'))
    if torch.cuda.is_available(): return
    with pytest.raises(ValueError, match="device 'cuda' was requested"):
        Trainer(TrainConfig(device='cuda'))


def test_a_share_is_set_aside_for_validation(tmp_path):
    "Seeded, said, without overlap; refused where there are validation images."
    write_split(tmp_path/'d', 'train', images=20)
    data = str(tmp_path/'d')
    with pytest.raises(ValueError, match='--val-share'): opened(data=data)
    _, train, val, said = opened(data=data, val_share=.25)
    ids = [{split.image_id(i) for i in range(len(split))} for split in (train, val)]
    assert [len(i) for i in ids] == [15, 5] and not ids[0] & ids[1]
    assert '5 of 20 images are set aside for validation, chosen by seed 0' in said
    again, other = (opened(data=data, val_share=.25, seed=seed)[2] for seed in (0, 1))
    assert {again.image_id(i) for i in range(5)} == ids[1] != {other.image_id(i) for i in range(5)}
    with pytest.raises(ValueError, match='val_share has no effect: there are validation images'):
        opened(data=write_data(tmp_path/'e'), val_share=.25)


def test_validation_that_contradicts_training_is_refused(tmp_path):
    "The ids 1 and 2 named the other way round."
    data = write_data(tmp_path/'d')
    change(data, 'val', exchange_names)
    with pytest.raises(ValueError, match="category 1 is 'dog' in .* but 'cat'"): opened(data=data)


def test_a_class_that_only_validation_lists_is_no_error(tmp_path):
    data = write_data(tmp_path/'d')
    change(data, 'val', lambda content: content['categories'].append(dict(id=9, name='animals')))
    model, _, val, _ = opened(data=data)
    assert model.config.class_names == val.class_names == ('cat', 'dog', 'owl', 'fox', 'bee')


@pytest.mark.parametrize('split', ('train', 'val'))
@pytest.mark.parametrize('edit, sentence', (
    (swap_sizes, 'height and width are exchanged'),
    (without_boxes, 'has no box to train on: the file lists none'),
    (only_crowds, '12 are crowds')))
def test_data_that_cannot_teach_stop_at_once(tmp_path, split, edit, sentence):
    data = write_data(tmp_path/'d')
    change(data, split, edit)
    config = TrainConfig(data=data, out=str(tmp_path/'run'), **SHORT)
    with pytest.raises(ValueError, match=sentence): Trainer(config)
    assert not (tmp_path/'run').exists()


def test_pointers_instead_of_images_stop_at_once(tmp_path):
    data = write_data(tmp_path/'d')
    for file in (tmp_path/'d'/'train').iterdir():
        file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    with pytest.raises(ValueError, match='git lfs pull'): opened(data=data)


def test_images_that_vanish_stop_the_run(tmp_path):
    "A whole pass without an image: the run stops, and its checkpoint stays."
    data = write_data(tmp_path/'d')
    config = TrainConfig(data=data, out=str(tmp_path/'run'), **SHORT | dict(steps=40))
    trainer, save = Trainer(config), Trainer.save
    def save_once(): # then the disk is gone
        save(trainer)
        for file in (tmp_path/'d'/'train').iterdir(): file.unlink()
    trainer.save = save_once
    with pytest.raises(OSError, match='none of the last 6 training images could be read'):
        trainer.run()
    assert is_whole(tmp_path/'run/checkpoint') and trainer.step < 7


def test_validation_images_without_boxes_at_the_front(tmp_path):
    "None among those evaluated: refused at once. None in the fifth on the way: the run continues."
    data = write_data(tmp_path/'d', images=10)
    def empty_half(content):
        boxes = [row for row in content['annotations'] if row['image_id'] > 5]
        content.update(annotations=boxes)
    change(data, 'val', empty_half)
    with pytest.raises(ValueError, match='none of the first 5 validation .* raise eval_images'):
        build(TrainConfig(data=data, eval_images=5))
    options = SHORT | dict(eval_every=2, eval_images=10)
    trainer = Trainer(TrainConfig(data=data, out=str(tmp_path/'run'), **options))
    assert trainer.run()['AP'] >= 0 and trainer.judge.evaluated == 10


def begun(tmp_path:Path) -> tuple[TrainConfig,str,dict]:
    "A finished short run on its data, and the bytes that it left."
    data = write_data(tmp_path/'d')
    config = TrainConfig(data=data, out=str(tmp_path/'run'), **SHORT)
    Trainer(config).run()
    return config, data, left(config)


def left(config:TrainConfig) -> dict: # bytes by name
    "What a run folder holds of the model and its figures."
    names = ('checkpoint/model.safetensors', 'metrics.jsonl', 'data.json')
    return {name: (Path(config.out)/name).read_bytes() for name in names}


@pytest.mark.parametrize('edit, sentence', (
    (exchange_names, r"a class of the training data was \[1, 'cat'\] and now is \[1, 'dog'\]"),
    (lambda c: c['categories'].append(dict(id=6, name='elk')), r"was None and now is \[6, 'elk'\]"),
    (lambda c: (c['images'].pop(), c.update(annotations=c['annotations'][:10])),
     'training images were 6 and now are 5; training boxes were 12 and now are 10'),
    (lambda c: c['annotations'].pop(), 'training boxes were 12 and now are 11'),
    (lambda c: c['annotations'][0].update(category_id=3), 'the training annotations have changed')))
def test_a_run_knows_its_data_again(tmp_path, edit, sentence):
    "Other names, classes, images, boxes: refused, nothing lost; --fresh moves the folder aside."
    config, data, before = begun(tmp_path)
    change(data, 'train', edit)
    if edit is exchange_names: change(data, 'val', edit)
    with pytest.raises(ValueError, match=sentence): Trainer(config)
    assert left(config) == before
    assert Trainer(replace(config, fresh=True)).step == 0 and (tmp_path/'run.1/checkpoint').is_dir()


def test_data_that_moved_are_known_again(tmp_path):
    "The same annotations under another path: the run continues."
    config, data, before = begun(tmp_path)
    moved = str(tmp_path/'moved')
    os.rename(data, moved)
    trainer = Trainer(replace(config, data=moved))
    assert trainer.step == 4 and trainer.run()['AP'] >= 0 and left(config) == before
    change(moved, 'train', lambda content: content['annotations'].pop())
    with pytest.raises(ValueError, match='boxes were 12 and now are 11'):
        Trainer(replace(config, data=moved))


def test_a_folder_from_before_resumes(tmp_path):
    "Without data.json and the newer options, as older runs left it."
    config, _, before = begun(tmp_path)
    (tmp_path/'run/data.json').unlink()
    path = tmp_path/'run/config.json'
    options = json.loads(path.read_text())
    for name in ('val_share', 'by_name', 'device'): del options[name]
    path.write_text(json.dumps(options))
    assert Trainer(config).step == 4 and left(config) == before


def test_an_unreadable_validation_image_does_not_end_a_run(tmp_path, capsys):
    "It is named; the figures say how many images were read; a restart does nothing again."
    data = write_data(tmp_path/'d', images=8)
    (tmp_path/'d/val/002.png').write_bytes(b'torn')
    config = TrainConfig(data=data, out=str(tmp_path/'run'), **SHORT)
    trainer = Trainer(config)
    with pytest.warns(UserWarning, match='1 of 8 images could not be read'): figures = trainer.run()
    assert '002.png' in capsys.readouterr().out and (tmp_path/'run/detections.png').is_file()
    row = read_metrics(tmp_path/'run/metrics.jsonl')[-1]
    assert trainer.judge.evaluated == row['eval_images'] == 7
    before, again = left(config), Trainer(config)
    assert again.run() == {name: pytest.approx(value, abs=1e-6) for name, value in figures.items()}
    assert again.judge.evaluated == 7 and left(config) == before


def test_steps_and_images_are_the_real_ones(tmp_path):
    "Two passes over six images are six updates of two; of 500 images asked for, six are there."
    options = {name: value for name, value in SHORT.items() if name != 'steps'}
    options |= dict(epochs=2., eval_images=500, out=str(tmp_path/'run'))
    trainer = Trainer(TrainConfig(data=write_data(tmp_path/'d'), **options))
    trainer.run()
    assert (trainer.config.steps, trainer.step, trainer.judge.evaluated) == (6, 6, 6)
    saved = Pix2Seq.from_pretrained(tmp_path/'run/checkpoint').config
    assert saved.class_names == ('cat', 'dog', 'owl', 'fox', 'bee')


def test_a_model_with_tuples_resumes(tmp_path):
    "A canvas is a tuple in the record and a list in the folder: the same run."
    options = SHORT | dict(model=TINY | dict(image_size=(64, 64)))
    config = TrainConfig(data=write_data(tmp_path/'d'), out=str(tmp_path/'run'), **options)
    Trainer(config).run()
    assert Trainer(config).step == 4


def test_two_processes_in_one_folder(tmp_path):
    "A job that was queued twice: the second is refused, and the first ends as if alone."
    config = TrainConfig(data=write_data(tmp_path/'d'), out=str(tmp_path/'run'), **SHORT)
    first = Trainer(config)
    second = ('import sys, pathlib, pix2seq.run_folder as t\n'
              't.lock_folder(pathlib.Path(sys.argv[1]), .2)')
    command = [sys.executable, '-c', second, config.out]
    env = os.environ | dict(PYTHONPATH=str(Path(__file__).parent.parent))
    def start(): return subprocess.run(command, env=env, text=True, capture_output=True)
    refused = start()
    assert refused.returncode and 'another process is training in' in refused.stderr
    first.run()
    assert start().returncode == 0


def test_names_are_compared_as_people_read_them():
    cafe = Pix2SeqConfig.from_name('digits').with_classes((' Cafe\u0301',), (5,))
    assert other_classes(cafe, ('CAF\u00c9',), (5,)) is None
    assert "class 5 is 'cafe', and ' Cafe\u0301' in" in other_classes(cafe, ('cafe',), (5,))


# ---- the scale of deep images

def deepen(root:str, split:str, factor:int) -> None:
    "Make a split's images grey ones of 16 bits."
    for path in (Path(root)/split).iterdir():
        grey = np.asarray(Image.open(path).convert('L')).astype(np.uint16)*factor
        Image.fromarray(grey).save(path)


def test_scale_of_deep_images_is_kept(tmp_path):
    "Images of 12 bits in training; darker ones in validation and prediction share that scale."
    data = write_data(tmp_path/'d')
    deepen(data, 'train', 16)
    deepen(data, 'val', 2)
    with pytest.warns(UserWarning, match='scale 0..4095'):
        model, train, val = build(TrainConfig(data=data, model=TINY))
    assert train.levels == val.levels == model.config.levels == 4095
    model.eval().save_pretrained(tmp_path/'model')
    detector = Detector(Pix2Seq.from_pretrained(tmp_path/'model'))
    file = tmp_path/'d/val/000.png'
    by_file, by_hand = detector(file)[0], detector(read_image(file, levels=4095))[0]
    assert all(torch.equal(by_file[name], by_hand[name]) for name in by_hand)


def test_lessons_on_data_with_gaps(tmp_path):
    "Images without objects, crowds, lost files, a wide canvas: the lessons pass over them."
    data = write_data(tmp_path/'d', images=8)
    def thin(content):
        content['annotations'] = [row for row in content['annotations'] if row['image_id'] > 2]
        content['annotations'][0]['iscrowd'] = 1
    change(data, 'train', thin)
    (tmp_path/'d'/'train'/'005.png').write_bytes(b'')
    options = SHORT | dict(lessons=.5, batch_size=2, model=TINY | dict(image_size=(64, 96)))
    config = TrainConfig(data=data, out=str(tmp_path/'run'), **options)
    trainer, saved = Trainer(config), []
    keep = trainer.save
    trainer.save = lambda: (saved.append(trainer.step), keep())
    trainer.run()
    first = read_metrics(tmp_path/'run'/'metrics.jsonl')[:2]
    assert [(row['step'], [name for name in row if name.endswith('_loss')]) for row in first] == [
        (0, ['naming_loss']), (0, ['windows_loss'])]
    assert saved[0] == 0 and saved[-1] == 4
    again = Trainer(config)                     # the lessons are not taken twice
    assert again.begun and again.step == 4
    again.lock.release(force=True)


def test_lessons_are_for_models_that_know_nothing():
    with pytest.raises(ValueError, match='--lessons has no effect with --weights'):
        check_config(TrainConfig(weights='digits', lessons=.1))
    with pytest.raises(ValueError, match='--lessons must be a share from 0 to 1, not 2.0'):
        check_config(TrainConfig(lessons=2.))
