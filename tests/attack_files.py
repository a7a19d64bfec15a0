"""Damaged images, annotation files and results files.

Each function writes the input of a seed into a folder, and gives the arguments of
`attack.outcome`: what reads it, what is right, and the name that a sentence must give."""
import contextlib
import copy
import io
import json
import math
import random
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from pix2seq.data import CocoDataset
from pix2seq.images import image_formats, read_image
from pix2seq.results import load_results


# Damage
def whole(data:bytes, rng:random.Random) -> bytes:
    "No damage."
    return data


def cut(data:bytes, rng:random.Random) -> bytes:
    "The first part of a file."
    return data[:rng.randrange(len(data))]


def flip(data:bytes, rng:random.Random) -> bytes:
    "A few bits turned over, half of the time in the header."
    data = bytearray(data)
    reach = len(data) if rng.random() < .5 else min(64, len(data))
    for _ in range(rng.choice((1, 4, 16))): data[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    return bytes(data)


def splice(data:bytes, rng:random.Random) -> bytes:
    "A piece of the file written over another place."
    start, place = rng.randrange(len(data)), rng.randrange(len(data))
    piece = data[start:start + rng.choice((4, 16, 256))]
    return data[:place] + piece + data[place + len(piece):]


# Images
MODES = '1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'LAB', 'HSV', 'I', 'F', 'I;16'
SIZES = (1, 1), (1, 50), (50, 1), (17, 23), (64, 48)
LOSSLESS = 'BMP', 'DIB', 'IM', 'PCX', 'PNG', 'PPM', 'SGI', 'TGA', 'TIFF'
FOUND_CUT = [kind for kind in LOSSLESS if kind != 'PCX']  # whose palette is last, and optional


def written(seed:int) -> tuple[Image.Image,str,bytes]:
    "An image of one of the modes, sizes and formats that Pillow writes: itself, format and file."
    rng = random.Random(seed)
    Image.init()
    formats = [name for name in sorted(Image.SAVE) if name != 'PDF']
    noise = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
    while True:
        file, mode, kind = io.BytesIO(), rng.choice(MODES), rng.choice(formats)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                image = Image.fromarray(noise).resize(rng.choice(SIZES))
                image = (image.convert('L') if mode == 'I;16' else image).convert(mode)
                image.save(file, kind)
        except Exception: continue  # this format does not know that mode
        if file.tell(): return image, kind, file.getvalue()


def plain_pixels(image:Image.Image) -> np.ndarray|None:
    "`[H, W, 3]` of an image of a simple mode, by numpy alone."
    pixels = np.asarray(image)
    if 'transparency' in image.info: return None
    if image.mode == 'P': return np.array(image.getpalette(), np.uint8).reshape(-1, 3)[pixels]
    if image.mode == '1': pixels = pixels*np.uint8(255)
    elif image.mode in ('LA', 'RGBA') and (pixels[..., -1] == 255).all(): pixels = pixels[..., :-1]
    elif image.mode not in ('L', 'RGB'): return None
    return np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3))


def expected(image:Image.Image, kind:str, data:bytes) -> np.ndarray|None:
    "The pixels that an undamaged file must give: its source's where the format keeps them."
    if kind in LOSSLESS: return plain_pixels(image)
    with Image.open(io.BytesIO(data)) as stored:
        stored.load()
        return plain_pixels(stored)


def image(seed:int, folder:Path) -> dict:
    "An image, damaged or whole: of a whole one the pixels are known."
    rng, path = random.Random(seed), folder/'image.jpg'
    source, kind, data = written(seed)
    damage = rng.choice((whole, cut, flip, splice))
    path.write_bytes(damage(data, rng))
    known = kind in image_formats() and (damage is whole or damage is cut and kind in FOUND_CUT)
    pixels = expected(source, kind, data) if known else None
    def right(read):
        if read.ndim != 3 or len(read) != 3 or not read.numel(): return False
        return pixels is None or np.array_equal(read.movedim(0, -1).numpy(), pixels)
    must = damage is whole and kind in image_formats()
    return dict(call=lambda: read_image(path), right=right, name=str(path), whole=must)


# Documents
ODD = (None, True, -1, 0, 1.5, 2**40, 10**30, float('nan'), float('inf'), '', 'x', 'é\ud800', '\0',
       [], [1], {}, {'id': 1}, [[[[]]]])


def document() -> dict:
    "Four images with two boxes each, of three classes."
    images = [dict(id=i, file_name=f'{i}.png', width=20, height=16) for i in range(1, 5)]
    annotations = [dict(id=i, image_id=i//2 + 1, category_id=i % 3 + 1, bbox=[1, 2, 5 + i, 6],
                        area=30, iscrowd=0) for i in range(8)]
    categories = [dict(id=i, name=name) for i, name in enumerate('abc', 1)]
    return dict(images=images, annotations=annotations, categories=categories)


def places(value, at=()):
    "Every place of a nested value, as a path of keys."
    inside = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    for key, below in inside:
        yield (*at, key)
        yield from places(below, (*at, key))


def damaged(value, rng:random.Random):
    "A copy of which one place is deleted, changed, doubled or nested."
    value = copy.deepcopy(value)
    *above, key = rng.choice([*places(value)])
    parent = value
    for step in above: parent = parent[step]
    how = rng.randrange(4)
    if how == 0: del parent[key]
    elif how == 1: parent[key] = rng.choice(ODD)
    elif how == 2 and isinstance(parent, list): parent.append(copy.deepcopy(parent[key]))
    else: parent[key] = [parent[key]]
    return value


def damaged_text(value, rng:random.Random) -> tuple[bytes,bool]:
    "JSON of a damaged value, one in three damaged as bytes too; one in twenty is whole."
    if rng.random() < .05: return json.dumps(value).encode(), True
    data = json.dumps(damaged(value, rng)).encode()
    return (rng.choice((cut, flip, splice))(data, rng) if rng.random() < .33 else data), False


def images_of(folder:Path) -> None:
    "The four images of the document."
    for i in range(1, 5):
        if not (folder/f'{i}.png').exists(): Image.new('RGB', (20, 16)).save(folder/f'{i}.png')


def same_id(value) -> str:
    "1, 1.0 and '1' are one id."
    return str(int(value)) if isinstance(value, float) else str(value)


# Annotations
def corners(row:dict, width:float, height:float) -> tuple|None:
    "A box's corners inside its image; None where no area is left."
    x, y, w, h = map(float, row['bbox'])
    if not all(map(math.isfinite, (x, y, w, h))): return None
    limits = (x, width), (y, height), (x + w, width), (y + h, height)
    x0, y0, x1, y1 = (min(max(value, 0), limit) for value, limit in limits)
    return (x0, y0, x1, y1) if w > 0 and h > 0 and x0 < x1 and y0 < y1 else None


def by_image(text:str) -> tuple[dict,int]: # boxes and names by image, and how many boxes are none
    "What an annotation file says, in the simplest way."
    record, boxes, dropped = json.loads(text), {}, 0
    names = {same_id(c['id']): str(c['name']) for c in record['categories']}
    sizes = {same_id(i['id']): (i['width'], i['height']) for i in record['images']}
    for row in record['annotations']:
        found = corners(row, *sizes[same_id(row['image_id'])])
        if found is None: dropped += 1
        else: boxes.setdefault(same_id(row['image_id']), []).append(
            (*np.float32(found).tolist(), names[same_id(row['category_id'])]))
    return {i: sorted(boxes.get(i, [])) for i in sizes}, dropped


def annotations(seed:int, folder:Path) -> dict:
    "An annotation file: each box is where a plain reader finds it, or counted as dropped."
    images_of(folder)
    path = folder/'annotations.json'
    text, is_whole = damaged_text(document(), random.Random(seed))
    path.write_bytes(text)
    def read():
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = CocoDataset(folder, path)
            return dataset, [dataset[i] for i in range(len(dataset))]
    def right(result):
        dataset, samples = result
        found = {same_id(sample['image_id']): sorted(
            (*box, dataset.class_names[label]) for box, label
            in zip(sample['boxes'].tolist(), sample['labels'].tolist(), strict=True))
            for sample in samples}
        return (found, dataset.num_dropped) == by_image(text.decode('utf-8-sig'))
    return dict(call=read, right=right, name=str(folder), whole=is_whole)


# Results
def results(seed:int, folder:Path) -> dict:
    "A results file of a sound data set: each row is there, on its image, to the last digit."
    images_of(folder)
    truth, path = folder/'annotations.json', folder/'results.json'
    truth.write_text(json.dumps(document()))
    rows = [dict(image_id=i % 4 + 1, category_id=i % 3 + 1, bbox=[1, 2, 3, 4], score=.1*i)
            for i in range(6)]
    text, is_whole = damaged_text(rows, random.Random(seed))
    path.write_bytes(text)
    dataset = CocoDataset(folder, truth)
    def right(loaded):
        rows, wanted = json.loads(text.decode('utf-8-sig')), {i: [] for i in range(1, 5)}
        for row in rows:
            wanted[int(row['image_id'])].append(
                (*map(float, [*row['bbox'], row['score']]), row['category_id']))
        found = {target['image_id']: [
            (*box, score, dataset.category_ids[label]) for box, score, label
            in zip(*(one[key].tolist() for key in ('xywh', 'scores', 'labels')), strict=True)]
            for one, target in zip(*loaded, strict=True)}
        return found == wanted and all(math.isfinite(number) for rows in found.values()
                                       for row in rows for number in row)
    return dict(call=lambda: load_results(path, dataset), right=right, name=str(path),
                whole=is_whole)
