"Images as people have them: small ones made here, each with its right pixels or its one sentence."
import functools
import http.server
import io
import json
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image, ImageOps, features
from pycocotools.coco import COCO

from pix2seq import predict as predict_module
from pix2seq.detector import Detector
from pix2seq.digits import DigitScenes, write_digits
from pix2seq.images import deep_levels, image_files, image_suffixes, read_image
from pix2seq.inputs import download_image, to_tensor
from pix2seq.predict import predict

SCENES = [DigitScenes('val')[i]['image'] for i in range(24)]
RAMP = np.linspace(0, 1, 24).reshape(4, 6)


@pytest.fixture(scope='module')
def detector():
    return Detector.from_pretrained('digits', 'cpu')

def save(path:Path, image, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, torch.Tensor): image = image.movedim(0, -1).numpy()
    if isinstance(image, np.ndarray): image = Image.fromarray(image)
    image.save(path, **how)
    return path

def values(path:Path, **how) -> np.ndarray:
    "The first channel; a picture of grey has three that are the same."
    pixels = read_image(path, **how)
    assert (pixels == pixels[:1]).all()
    return pixels[0].numpy()

def same(a:list[dict], b:list[dict]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b):
        assert one['labels'].tolist() == other['labels'].tolist()
        torch.testing.assert_close(one['boxes'], other['boxes'], atol=1e-3, rtol=0)
        torch.testing.assert_close(one['scores'], other['scores'], atol=1e-4, rtol=0)


# Pixels
def test_bytes_are_as_they_are(tmp_path):
    grey = (RAMP*100).astype(np.uint8)  # dark, and it stays so
    np.testing.assert_array_equal(values(save(tmp_path/'a.png', grey)), grey)


@pytest.mark.parametrize('suffix, order', [('png', '<'), ('tif', '<'), ('tif', '>')])
def test_16_bits_by_type(tmp_path, suffix, order):
    deep = (RAMP*65535).round().astype(f'{order}u2')
    np.testing.assert_array_equal(values(save(tmp_path/f'a.{suffix}', deep)), (deep/257).round())
    half = deep//2  # its own maximum does not count
    np.testing.assert_array_equal(values(save(tmp_path/f'b.{suffix}', half)), (half/257).round())


@pytest.mark.parametrize('high, level', [(200, 255), (1000, 1023), (4095, 4095), (16000, 16383),
                                         (40000, 65535)])
def test_data_set_has_one_scale(tmp_path, high, level):
    save(tmp_path/'night.png', (RAMP*high/16).astype(np.uint16))
    save(tmp_path/'photo.jpg', SCENES[0])
    day = save(tmp_path/'day.png', (RAMP*high).astype(np.uint16))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always')
        assert deep_levels(image_files(tmp_path)) == level
    assert [str(level) in str(w.message) for w in told] == [True]*(level < 65535)
    assert values(day, levels=level).max() == round(high*255/level)


def test_levels_of_no_deep_images(tmp_path):
    assert deep_levels([save(tmp_path/'a.jpg', SCENES[0]), tmp_path/'absent.png']) is None
    assert deep_levels([]) is None


def test_above_the_scale_is_refused(tmp_path):
    path = save(tmp_path/'hot.png', (RAMP*5000).astype(np.uint16))
    with pytest.raises(OSError, match=r'hot\.png .* 0\.\.4095, but reach from 0 to 5000'):
        read_image(path, levels=4095)


def test_twelve_bits_alone(tmp_path):
    deep = (RAMP*4095).round().astype(np.uint16)
    with pytest.warns(UserWarning, match=r'plain\.tif has 16-bit pixels, .* 4095: .*levels=4095'):
        assert values(save(tmp_path/'plain.tif', deep)).max() == 16
    with warnings.catch_warnings():  # a tag tells
        warnings.simplefilter('error')
        assert values(save(tmp_path/'tag.tif', deep, tiffinfo={281: 4000})).max() == 255


def png_16(pixels:np.ndarray) -> bytes:
    "A PNG of 16 bits a colour, which Pillow does not write."
    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', check)
    head = struct.pack('>IIBBBBB', pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
    parts = chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


def test_16_bit_colours(tmp_path):
    deep = (RAMP[..., None]*[4095, 2000, 700]).astype(np.uint16)
    (tmp_path/'a.png').write_bytes(png_16(deep*16))
    assert np.abs(read_image(tmp_path/'a.png').movedim(0, -1).numpy() - deep*(16/257)).max() <= 1
    (tmp_path/'b.png').write_bytes(png_16(deep))
    with pytest.warns(UserWarning, match=r'b\.png has 16-bit pixels, .* 4095'):
        read_image(tmp_path/'b.png')
    with pytest.warns(UserWarning): assert deep_levels([tmp_path/'b.png']) == 4095
    close = read_image(tmp_path/'b.png', levels=4095).movedim(0, -1).numpy() - deep*(255/4095)
    assert np.abs(close).max() <= 16  # Pillow keeps their upper bits alone


@pytest.mark.skipif(not features.check('webp'), reason='this Pillow has no WebP')
def test_formats_that_some_pillows_read(tmp_path):
    assert '.webp' in image_suffixes()
    assert read_image(save(tmp_path/'a.webp', SCENES[0])).shape == (3, 96, 96)
    if '.avif' in image_suffixes():
        assert read_image(save(tmp_path/'a.avif', SCENES[0])).shape == (3, 96, 96)


def test_float_images(tmp_path):
    fractions, large = RAMP.astype(np.float32), (RAMP*200).astype(np.float32)
    np.testing.assert_array_equal(values(save(tmp_path/'a.tif', fractions)), (RAMP*255).round())
    np.testing.assert_array_equal(values(save(tmp_path/'b.tif', large)), (RAMP*200).round())


@pytest.mark.parametrize('bad, expected',
                         [(np.nan, 'nan'), (np.inf, 'inf'), (-3, '-3'), (999, '999')])
def test_float_images_refused(tmp_path, bad, expected):
    pixels = RAMP.astype(np.float32)
    pixels[1, 1] = bad
    with pytest.raises(OSError, match=rf'bad\.tif .*0\.\.1 or 0\.\.255, but reach .*{expected}'):
        read_image(save(tmp_path/'bad.tif', pixels))


def test_32_bit_integers(tmp_path):
    small, deep = (RAMP*200).astype(np.int32), (RAMP*60000).astype(np.int32)
    np.testing.assert_array_equal(values(save(tmp_path/'a.tif', small)), small)
    np.testing.assert_array_equal(values(save(tmp_path/'b.tif', deep)), (deep/257).round())
    for pixels, expected in ((deep + 10000, 'to 70000'), (deep - 1, 'from -1')):
        path = save(tmp_path/'c.tif', pixels)
        with pytest.raises(OSError, match=rf'c\.tif .*{expected}'): read_image(path)


# Files
def test_turned_only_where_it_fits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path/'a.jpg', SCENES[0][:, :60], exif=exif)
    assert read_image(path).shape == read_image(path, (96, 60)).shape == (3, 96, 60)
    assert read_image(path, (60, 96)).shape == (3, 60, 96)
    with pytest.raises(OSError, match='96x60 pixels, but its annotation says 10x10'):
        read_image(path, (10, 10))


@pytest.mark.parametrize('orientation', range(1, 9))
def test_turned_as_pillow_turns(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path/'a.png', SCENES[0][:, :60], exif=exif)
    with Image.open(path) as image: expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image(path).movedim(0, -1).numpy(), expected)


def test_bytes_and_open_files(tmp_path):
    path = save(tmp_path/'a.png', SCENES[0])
    class Stream(io.RawIOBase):  # a pipe: it cannot be rewound
        def __init__(self, data): self.data = io.BytesIO(data)
        def read(self, size=-1): return self.data.read(size)
    data = path.read_bytes()
    for kind in (data, bytearray(data), path.open('rb'), Stream(data), Image.open(path)):
        assert torch.equal(read_image(kind), SCENES[0])
    with pytest.raises(OSError, match='its bytes are in no image format'): read_image(b'abc')


@pytest.mark.parametrize('name, content, expected', [
    ('empty.jpg', b'', 'it is empty'),
    ('text.jpg', b'no image at all', 'its bytes are in no image format'),
    ('lfs.jpg', b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'),
    ('phone.jpg', b'\0\0\0\x18ftypheic\0\0\0\0',
     'HEIC file, .* cannot read: pip install pillow-heif'),
    ('film.jpg', b'\0\0\0\x18ftypisom\0\0\0\0', 'it is a video'),
    ('paper.jpg', b'%PDF-1.7', 'PostScript or PDF')])
def test_what_is_no_image(tmp_path, name, content, expected):
    (tmp_path/name).write_bytes(content)
    with pytest.raises(OSError, match=rf'{name} cannot be read as an image: .*{expected}'):
        read_image(tmp_path/name)


def test_what_is_no_file(tmp_path):
    with pytest.raises(OSError, match='it is a folder'): read_image(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'none\.jpg does not exist'):
        read_image(tmp_path/'none.jpg')
    with pytest.raises(OSError, match='a pipe or a device'): read_image(os.devnull)
    os.mkfifo(tmp_path/'pipe.jpg')
    with pytest.raises(OSError, match='a pipe or a device'):  # at once, though nobody writes
        read_image(tmp_path/'pipe.jpg')


def test_no_other_program_runs(tmp_path, monkeypatch):
    path = save(tmp_path/'a.eps', SCENES[0])
    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', lambda *args, **how: pytest.fail('it ran'))
    for name in ('a.eps', 'a.jpg'):
        path = path.rename(tmp_path/name)
        with pytest.raises(OSError, match='PostScript'): read_image(path)


def test_panoramas_by_option(tmp_path, monkeypatch):
    path = save(tmp_path/'wide.png', SCENES[0])
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 4000)
    with pytest.raises(OSError, match=r'wide\.png .* more than 8000 pixels; .* max_pixels'):
        read_image(path)
    assert torch.equal(read_image(path, max_pixels=96*96), SCENES[0])
    assert Image.MAX_IMAGE_PIXELS == 4000
    with pytest.raises(OSError, match='9216 pixels, more than max_pixels=9215'):
        read_image(path, max_pixels=9215)


def test_folders_and_patterns(tmp_path):
    for name in ('b.jpg', 'a.PNG', 'deep/c.jpg', 'deep/.cache/d.jpg', '._a.jpg'):
        save(tmp_path/name, SCENES[0], format='PNG')
    for name in ('x.heic', 'y.HEIC', 'z.heif', 'notes.txt', 'a.eps'): (tmp_path/name).touch()
    names = lambda *args: [p.relative_to(tmp_path).as_posix() for p in image_files(*args)]
    with pytest.warns(UserWarning, match=r'has 3 HEIC files, .*: pip install pillow-heif') as told:
        assert names(tmp_path) == ['a.PNG', 'b.jpg']
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert names(tmp_path, True) == ['a.PNG', 'b.jpg', 'deep/c.jpg']
    assert names(str(tmp_path/'*.jpg')) == ['b.jpg']
    assert names(str(tmp_path/'**'/'c.*')) == ['deep/c.jpg']
    save(tmp_path/'[1].jpg', SCENES[0])  # a name, not a pattern
    assert names(tmp_path/'[1].jpg') == ['[1].jpg']
    with pytest.raises(FileNotFoundError, match='does not exist'): image_files([tmp_path/'*.gif'])


# The detector
def test_one_image_of_any_kind(detector, tmp_path):
    path, pixels = save(tmp_path/'a.png', SCENES[3]), SCENES[3].movedim(0, -1).numpy()
    expected = detector(SCENES[3])
    files = path, str(path), path.read_bytes(), path.open('rb'), tmp_path, str(tmp_path/'*.png')
    arrays = pixels, pixels/255, pixels.astype(np.float32), pixels[None]
    others = Image.open(path), SCENES[3]/255, SCENES[3][None], [path], iter([path])
    for kind in (*files, *arrays, *others): same(detector(kind), expected)
    same(detector(pixels[..., ::-1], bgr=True), expected)
    assert detector([]) == [] == detector(iter([]))


@pytest.mark.parametrize('wrong, expected', [
    (None, 'NoneType'), (3, 'not int'), ('', 'is empty'), ({'image': 1}, 'not dict'),
    ([3], 'not int'), ('none.png', 'none.png does not exist'), (np.zeros((8, 8), bool), 'bool'),
    (np.zeros((3, 8, 8), np.uint8), r'\[H, W, 3\] or \[H, W\] .*not \[3, 8, 8\]'),
    (np.full((8, 8), 300.), 'from 300 to 300'), (torch.zeros(4, 8, 8), r'\[4, 8, 8\]'),
    (torch.zeros(3, 8, 8).long(), 'int64')])
def test_what_a_detector_refuses(detector, wrong, expected):
    with pytest.raises((TypeError, ValueError, OSError), match=expected): detector(wrong)


def test_what_makes_no_detector(detector):
    with pytest.raises(TypeError, match=r"not 'digits'; Detector\.from_pretrained\(name\)"):
        Detector('digits')
    for name in ('', None):
        with pytest.raises(ValueError, match='a model has a name'): Detector.from_pretrained(name)
    for size in (0, -4, 2.5, '4', True):
        with pytest.raises(ValueError, match='batch_size must be a whole number of at least 1'):
            Detector(detector.model, size)
    with pytest.raises(ValueError, match='threshold must lie in 0..1, not 50'):
        detector(SCENES[0], 50)


def test_place_in_the_list_changes_nothing(detector, tmp_path):
    alone = [detector(image)[0] for image in SCENES]
    same(detector(SCENES), alone)
    same(detector(SCENES[::-1])[::-1], alone)
    for size in (1, 4, 16): same(Detector(detector.model, size)(SCENES), alone)
    (tmp_path/'torn.png').write_bytes(b'torn')
    with pytest.warns(UserWarning, match=r'skipped: .*torn\.png'):
        among = detector([SCENES[0], tmp_path/'torn.png', *SCENES[1:]])
    assert 'torn.png' in among.pop(1)['error']
    same(among, alone)
    other = detector(SCENES, seed=1)
    assert any(a['boxes'].tolist() != b['boxes'].tolist() for a, b in zip(other, alone))


def test_generators_are_read_in_batches(detector):
    asked = []
    def camera():
        for i in range(5):
            asked.append(i)
            yield SCENES[i]
    few = Detector(detector.model, 2)
    seen = []
    few._objects = lambda batch, *how: seen.append(len(asked)) or [None]*len(batch)
    assert len(few(camera())) == 5 and seen == [2, 4, 5]


def test_addresses(detector, tmp_path, monkeypatch):
    save(tmp_path/'a.png', SCENES[3])
    (tmp_path/'page.html').write_text('<html>')
    monkeypatch.setenv('no_proxy', '*')
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f'http://127.0.0.1:{server.server_port}'
        same(detector(f'{at}/a.png'), detector(SCENES[3]))
        with pytest.raises(OSError, match=r'/none\.png cannot be downloaded: .*404'):
            detector(f'{at}/none.png')
        with pytest.raises(OSError, match=r'/page\.html cannot be read as an image'):
            detector(f'{at}/page.html')
        with pytest.raises(OSError, match='it has more than 1e-05 MB'):
            download_image(f'{at}/a.png', most=10)
        with pytest.warns(UserWarning):
            assert 'error' in detector([f'{at}/none.png', SCENES[3]])[0]
        server.shutdown()
    with pytest.raises(OSError, match=f'{at}/a.png cannot be downloaded'):
        detector(f'{at}/a.png')


def test_twelve_bit_folder_is_seen(detector, tmp_path):
    grey = [image.float().mean(0).round() for image in SCENES[:3]]
    for i, image in enumerate(grey):
        save(tmp_path/'deep'/f'{i}.png', (image*16).numpy().astype(np.uint16))
        save(tmp_path/'plain'/f'{i}.png', image.numpy().astype(np.uint8))
    with pytest.warns(UserWarning, match='scale 0..4095'): deep = detector(tmp_path/'deep', .5)
    with pytest.warns(UserWarning, match='the image has 16-bit pixels'):
        to_tensor((grey[0]*16).numpy().astype(np.uint16))
    for a, b in zip(deep, detector(tmp_path/'plain', .5)):
        assert sorted(a['labels'].tolist()) == sorted(b['labels'].tolist())


def test_import_is_light():
    heavy = ['matplotlib.pyplot', 'accelerate', 'pycocotools', 'IPython']
    code = f'import sys, time, pix2seq.detector; print([m for m in {heavy} if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True)
    assert done.stdout.strip() == '[]', done.stderr


# Folders of results
def results(folder:Path) -> list[dict]:
    return json.loads((folder/'detections.json').read_text())

def test_results_meet_annotations(detector, tmp_path):
    write_digits(tmp_path, train=1, val=4)
    truth = tmp_path/'annotations'/'instances_val.json'
    rows, unread = predict(detector, tmp_path/'val', tmp_path/'out', annotations=truth)
    assert rows == results(tmp_path/'out') and unread == []
    assert {row['image_id'] for row in rows} == {0, 1, 2, 3}
    COCO(truth).loadRes(str(tmp_path/'out'/'detections.json'))
    save(tmp_path/'val'/'other.jpg', SCENES[0])
    with pytest.raises(ValueError, match=r'1 of 5 files have no image .*_val\.json.*other\.jpg'):
        predict(detector, tmp_path/'val', tmp_path/'out', annotations=truth)
    assert rows == results(tmp_path/'out')


def test_classes_by_their_names(detector, tmp_path, capsys):
    path, truth = save(tmp_path/'in'/'a.png', SCENES[3]), tmp_path/'a.json'
    expected = {row['category_id'] for row in predict(detector, [path], tmp_path/'plain')[0]}
    categories = [dict(id=100 - i, name=str(i)) for i in range(10)]
    images = [dict(id='7', file_name='in/a.png')]
    truth.write_text(json.dumps(dict(images=images, categories=categories)))
    rows, _ = predict(detector, [path], tmp_path/'out', annotations=truth)
    assert {row['image_id'] for row in rows} == {'7'}
    assert {row['category_id'] for row in rows} == {101 - number for number in expected}
    truth.write_text('[]')
    with pytest.raises(ValueError, match=r'a\.json is not a COCO-format file'):
        predict(detector, [path], tmp_path/'out', annotations=truth)


def test_names_that_meet(detector, tmp_path):
    names = ['day/1.jpg', 'night/1.jpg', 'both/a.jpg', 'both/a.png', 'both/b.JPG', 'both/ü b.png']
    for name, image in zip(names, SCENES): save(tmp_path/'in'/name, image)
    rows, _ = predict(detector, [tmp_path/'in'], tmp_path/'out', recursive=True)
    assert {row['image_id'] for row in rows} == set(names)
    drawn = {p.relative_to(tmp_path/'out').as_posix() for p in (tmp_path/'out').rglob('*.png')}
    assert drawn == {'day/1.png', 'night/1.png', 'both/a.jpg.png', 'both/a.png.png', 'both/b.png',
                     'both/ü b.png'}


def test_images_are_never_overwritten(detector, tmp_path):
    path = save(tmp_path/'in'/'a.png', SCENES[0])
    before = path.read_bytes()
    for out in (tmp_path/'in', tmp_path/'in'/'..'/'in', path):
        with pytest.raises(ValueError, match='among the images|is a file'):
            predict(detector, [path], out)
    (tmp_path/'link').symlink_to(tmp_path/'in')
    with pytest.raises(ValueError, match='among the images'):
        predict(detector, [path], tmp_path/'link')
    assert path.read_bytes() == before and len(list((tmp_path/'in').iterdir())) == 1
    for _ in range(2):  # the pictures of the first run are no images of the second
        rows, _ = predict(detector, [tmp_path/'in'], tmp_path/'in'/'found', recursive=True)
        assert {row['image_id'] for row in rows} == {'a.png'}


@pytest.mark.parametrize('content', ['{"mine": 1}', '[1, 2]', '[{"image_id": 1, "bbox": []}]',
                                     '', None])
def test_detections_take_the_place_of_no_other_file(detector, tmp_path, content):
    "Only a results file is replaced; this is known before an image is read."
    save(tmp_path/'in'/'a.png', SCENES[0])
    place = tmp_path/'out'/'detections.json'
    if content is None: place.mkdir(parents=True)
    else:
        place.parent.mkdir()
        place.write_text(content)
    with pytest.raises(ValueError, match=r'detections\.json exists and is not a results file'):
        predict(detector, [tmp_path/'in'], tmp_path/'out')
    assert list(place.parent.iterdir()) == [place]
    assert content is None or place.read_text() == content
    if content is not None:
        place.write_text(' [\n {"score": 1, "image_id": 3, "category_id": 1, "bbox": []}]')
        rows, _ = predict(detector, [tmp_path/'in'], tmp_path/'out')
        assert rows and results(tmp_path/'out') == rows


def test_a_killed_run_keeps_what_it_read(detector, tmp_path, monkeypatch, capsys):
    for i in range(4): save(tmp_path/'in'/f'{i}.png', SCENES[i])
    first, _ = predict(detector, [tmp_path/'in'], tmp_path/'out')
    calls = []
    def torn(path, *args):
        calls.append(path)
        if len(calls) == 3: raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(predict_module, 'save_picture', torn)
        with pytest.raises(KeyboardInterrupt): predict(detector, [tmp_path/'in'], tmp_path/'out')
    lines = (tmp_path/'out'/'detections.jsonl').read_text().splitlines()
    kept = [row for row in first if row['image_id'] != '3.png']
    assert [json.loads(line) for line in lines] == kept
    assert 'what was read so far is in' in capsys.readouterr().out
    assert results(tmp_path/'out') == first  # as it was
    assert predict(detector, [tmp_path/'in'], tmp_path/'out')[0] == first == results(tmp_path/'out')
    assert not list((tmp_path/'out').glob('*.jsonl'))


def test_an_odd_file_ends_nothing(detector, tmp_path, monkeypatch, capsys):
    for i in range(4): save(tmp_path/'in'/f'{i}.png', SCENES[i])
    (tmp_path/'in'/'1.png').write_bytes(b'torn')
    real = Detector.__call__
    def sometimes(self, image, **how):
        if torch.equal(image, SCENES[2]): raise RuntimeError('out of luck')
        return real(self, image, **how)
    monkeypatch.setattr(Detector, '__call__', sometimes)
    draw = predict_module.save_picture
    def undrawable(path, *args):
        if path.name == '3.png': raise ZeroDivisionError('no paper')
        draw(path, *args)
    monkeypatch.setattr(predict_module, 'save_picture', undrawable)
    rows, unread = predict(detector, [tmp_path/'in'], tmp_path/'out')
    assert {row['image_id'] for row in rows} == {'0.png', '3.png'}
    assert [path.name for path in unread] == ['1.png', '2.png']
    told = capsys.readouterr().out
    assert '1.png cannot be read as an image' in told
    assert '2.png: RuntimeError: out of luck' in told
    assert '3.png: ZeroDivisionError: no paper' in told
    for path in (tmp_path/'in').iterdir(): path.write_bytes(b'torn')
    with pytest.raises(ValueError, match='none of the files could be read as an image'):
        predict(detector, [tmp_path/'in'], tmp_path/'out')
    assert results(tmp_path/'out') == rows


@pytest.mark.skipif(sys.platform != 'linux', reason='names of any bytes')
def test_names_of_any_bytes(tmp_path):
    folder = tmp_path/'in'
    save(folder/'é 1.png', SCENES[0])
    save(folder/os.fsdecode(b'b\xff.png'), SCENES[1])
    (folder/os.fsdecode(b'torn\xff.png')).write_bytes(b'torn')
    code = ('import sys; from pix2seq.predict import predict, Detector; '
            'd = Detector.from_pretrained("digits"); '
            'print(len(predict(d, sys.argv[1:2], sys.argv[2])[1]))')
    env = {**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    command = [sys.executable, '-c', code, folder, tmp_path/'out']
    done = subprocess.run(command, text=True, capture_output=True, env=env)
    assert done.stdout.splitlines()[-1:] == ['1'], done.stderr
    assert 'torn' in done.stdout
    assert {row['image_id'] for row in results(tmp_path/'out')} == {'é 1.png', 'b\udcff.png'}
