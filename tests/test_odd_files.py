"Files that are odd on purpose: each is refused in a sentence, at once, or read as it is."
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from attack import RIGHT, SENTENCE, alarm, outcome
from PIL import Image

from pix2seq import kept_index
from pix2seq import predict as predict_module
from pix2seq.coco_file import make_index
from pix2seq.detector import Detector
from pix2seq.digits import DigitScenes
from pix2seq.images import _open, read_image
from pix2seq.kept_index import load_index
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.names import find_files, match_classes
from pix2seq.predict import _theirs, save_picture


def write(path, names=('a.png',), classes=1):
    "A COCO-format file without boxes."
    images = [dict(id=i, file_name=name, width=20, height=16) for i, name in enumerate(names)]
    categories = [dict(id=i, name=f'class {i}') for i in range(classes)]
    path.write_text(json.dumps(dict(images=images, categories=categories, annotations=[])))
    return path


@pytest.fixture
def kept(tmp_path, monkeypatch):
    "A file whose index is kept: the file, and a function that gives the kept index's place."
    monkeypatch.setenv('PIX2SEQ_CACHE', str(tmp_path/'cache'))
    monkeypatch.setattr(kept_index, '_KEPT_FROM', 0)
    path = write(tmp_path/'a.json')
    load_index(path)
    place, = (tmp_path/'cache').rglob('*.safetensors')
    return path, place


def test_a_file_name_without_end_is_refused(tmp_path):
    names = ['a'*10**6] + [f'{i}.png' for i in range(1000)]  # packed, they would be 1 GB
    with pytest.raises(ValueError, match='of 1000000 characters; expected 4096 at most') as told:
        make_index(write(tmp_path/'a.json', names))
    assert len(str(told.value)) < 400
    make_index(write(tmp_path/'a.json', ['a'*4096]))


def test_more_classes_than_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match='40000 categories; expected 32768 at most'):
        make_index(write(tmp_path/'a.json', classes=40_000))


@pytest.mark.parametrize('by_name', [False, True])
def test_many_classes_are_matched_in_seconds(by_name):
    classes = [(i, f'class {i}') for i in range(32_000)]
    names = tuple(name for _, name in classes)[::-1]
    with alarm(10):
        labels = match_classes('a.json', classes, [1]*len(classes), None, names, by_name)
    assert labels == [*range(len(classes))][::-1]


def test_a_file_of_equal_size_and_time_is_another_file(kept):
    path, _ = kept
    state = path.stat()
    for other in ('b.png', 'c.png'):
        write(path, [other])
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert path.stat().st_size == state.st_size
        assert bytes(load_index(path)[0]['file_names'][0].tolist()) == other.encode()


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no pipes with names')
@pytest.mark.parametrize('suffix', ['.safetensors', '.crc32'])
def test_a_pipe_in_the_place_of_the_index(kept, suffix):
    path, place = kept
    place.with_suffix(suffix).unlink()
    os.mkfifo(place.with_suffix(suffix))
    with alarm(10): load_index(path)
    assert place.is_file() and place.with_suffix('.crc32').is_file()


def test_an_index_that_is_cut_after_it_was_opened(kept):
    path, place = kept
    index, _ = load_index(path)
    os.truncate(place, 0)  # were it mapped, the next line would end the process
    assert bytes(index['file_names'][0].tolist()) == b'a.png'


def test_an_index_with_a_lie_in_its_head(kept):
    path, place = kept
    for content in (b'', b'\xff'*8, b'\xff'*64, (2).to_bytes(8, 'little') + b'{}'):
        place.write_bytes(content)
        place.with_suffix('.crc32').write_text(f'{zlib.crc32(content):08x}')
        assert bytes(load_index(path)[0]['file_names'][0].tolist()) == b'a.png'


@pytest.mark.parametrize('suffix', ['bmp', 'tif', 'ppm', 'tga'])
def test_an_image_that_is_cut_while_it_is_read(tmp_path, suffix):
    path = tmp_path/f'a.{suffix}'
    noise = np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8)
    Image.fromarray(noise).save(path)
    with _open(path) as image:
        os.truncate(path, 0)  # were it mapped, the next line would end the process
        image.load()
        np.testing.assert_array_equal(np.asarray(image), noise)


def test_a_file_beyond_all_bounds_is_not_read(tmp_path):
    path = tmp_path/'a.jpg'
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(OSError, match='it has 1099511627776 bytes; expected'): read_image(path)


def test_folders_that_lead_to_themselves(tmp_path):
    (tmp_path/'a.png').touch()
    for name in ('b', 'c', 'd'): (tmp_path/name).symlink_to(tmp_path)
    with alarm(10):
        assert find_files('a.json', tmp_path, np.array([b'a.png'])) is None


def test_odd_shapes(tmp_path):
    path = tmp_path/'a.png'
    Image.new('1', (1_700_000, 1)).save(path)
    start = time.monotonic()
    assert outcome(lambda: read_image(path)) == RIGHT and time.monotonic() - start < 10
    Image.new('1', (180_000_000, 1)).save(path)
    assert outcome(lambda: read_image(path)) == SENTENCE


@pytest.mark.parametrize('name', [r'$\bad$', '$5 and $6', '\ud800', 'two\nlines'])
def test_names_are_no_formulas(tmp_path, name):
    objects = dict(boxes=torch.tensor([[1., 2, 30, 40]]), labels=torch.tensor([0]),
                   scores=torch.tensor([.9]))
    save_picture(tmp_path/'a.png', torch.zeros(3, 96, 96, dtype=torch.uint8), objects, .5, [name])
    assert Image.open(tmp_path/'a.png').width > 96


@pytest.mark.parametrize('content', [
    '[' * 100_000, '{"images": [{"id": [1], "file_name": "a"}]}', '{"images": [], "categories": 3}',
    '{"images": [], "categories": [3]}', '{"images": [], "categories": [{"name": []}]}'])
def test_annotations_that_predict_refuses(tmp_path, content):
    (tmp_path/'a.json').write_text(content)
    call = lambda: _theirs([tmp_path/'a.png'], tmp_path/'a.json', Pix2SeqConfig(num_classes=2))
    assert outcome(call) == SENTENCE


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no pipes with names')
def test_a_pipe_in_the_place_of_annotations(tmp_path):
    os.mkfifo(tmp_path/'a.json')
    call = lambda: _theirs([tmp_path/'a.png'], tmp_path/'a.json', Pix2SeqConfig(num_classes=2))
    assert outcome(call, seconds=5) == SENTENCE


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no pipes with names')
@pytest.mark.parametrize('error', [MemoryError(), torch.OutOfMemoryError('CUDA out of memory'),
                                   RuntimeError("can't allocate memory")])
def test_odd_files_in_a_folder_of_predictions(tmp_path, monkeypatch, capsys, error):
    "A pipe, a line of 170,000,000 pixels, and no memory for one image: the others are read."
    folder = tmp_path/'in'
    folder.mkdir()
    for i in range(3): Image.fromarray(DigitScenes()[i]['image'].movedim(0, -1).numpy()).save(
        folder/f'{i}.png')
    Image.new('1', (170_000_000, 1)).save(folder/'line.png')
    os.mkfifo(folder/'pipe.png')
    read = predict_module.read_image
    def scarce(path, *how):
        if Path(path).name == '1.png': raise error
        return read(path, *how)
    monkeypatch.setattr(predict_module, 'read_image', scarce)
    with alarm(60): _, unread = predict_module.predict(
        Detector.from_pretrained('digits'), [folder], tmp_path/'out', max_pixels=2*10**8)
    told = capsys.readouterr().out
    for path in unread: assert told.count(f'{path.name}') == 1, told
    assert '1.png' in {path.name for path in unread} and not list((tmp_path/'out').glob('*.jsonl'))
    found = {row['image_id'] for row in json.loads((tmp_path/'out/detections.json').read_text())}
    assert found == {'0.png', '2.png'}


PREDICT = '''import sys
from pix2seq import predict as module
add = module._add_rows
def tell(*args):
    rows = add(*args)
    print("added", flush=True)
    return rows
module._add_rows = tell
from pix2seq.commands import main
sys.exit(main(["predict", sys.argv[1], "--out", sys.argv[2]]))
'''


@pytest.mark.skipif(os.name == 'nt', reason='a signal of POSIX systems')
def test_an_interrupt_keeps_what_was_read(tmp_path):
    (tmp_path/'in').mkdir()
    for i in range(60): Image.fromarray(DigitScenes()[i]['image'].movedim(0, -1).numpy()).save(
        tmp_path/'in'/f'{i}.png')
    run = subprocess.Popen([sys.executable, '-c', PREDICT, tmp_path/'in', tmp_path/'out'],
                           text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=os.environ | {'PYTHONPATH': str(Path(__file__).parent.parent)})
    for _ in range(3): run.stdout.readline()
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and 'Traceback' not in said, said
    rows = [json.loads(line) for line in (tmp_path/'out/detections.jsonl').read_text().splitlines()]
    assert len({row['image_id'] for row in rows}) >= 2
    assert not (tmp_path/'out/detections.json').exists()
