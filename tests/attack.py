"Damaged inputs by the thousand, each from a seed, and a table of what became of them."
import collections, contextlib, copy, io, json, random, signal, sys, tempfile, warnings
from pathlib import Path

import numpy as np
from PIL import Image

RIGHT, SENTENCE = 'right', 'one sentence'  # the two outcomes that are no failure
SECONDS = 20  # after which an input is said to hang


class Hang(BaseException):
    "Raised by the alarm; no `except Exception` of the library can take it."


def _ring(*_):
    raise Hang


@contextlib.contextmanager
def alarm(seconds:float):
    "Raise `Hang` after so many seconds (on systems with alarms)."
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try: yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_sentence(error:BaseException) -> bool:
    "An error of the kinds that are promised, in one line that is not empty."
    lines = str(error).strip().splitlines()
    return isinstance(error, (ValueError, OSError)) and len(lines) == 1


def outcome(call, right=lambda result: True, seconds:float=SECONDS) -> str:
    "What a call ends in; `silent` is a result that `right` refuses."
    try:
        with alarm(seconds), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return RIGHT if right(call()) else 'silent'
    except Hang: return 'hang'
    except Exception as error:
        return SENTENCE if is_sentence(error) else f'traceback: {type(error).__name__}'


class Table:
    "Counts of inputs by kind and outcome, and the seeds of the failures."
    def __init__(self):
        self.counts, self.failures = collections.defaultdict(collections.Counter), []

    def add(self, kind:str, seed:int, ended:str) -> None:
        "Count one input."
        self.counts[kind][ended] += 1
        if ended not in (RIGHT, SENTENCE): self.failures.append((kind, seed, ended))

    def __str__(self) -> str:
        rows = ['| inputs | number | right | one sentence | failures |', '|---|---|---|---|---|']
        for kind, ends in self.counts.items():
            total = sum(ends.values())
            bad = total - ends[RIGHT] - ends[SENTENCE]
            rows.append(f'| {kind} | {total:,} | {ends[RIGHT]:,} | {ends[SENTENCE]:,} | {bad:,} |')
        return '\n'.join(rows)


# Damage
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
MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'LAB', 'HSV', 'I', 'F', 'I;16')
SIZES = ((1, 1), (1, 50), (50, 1), (17, 23), (64, 48))


def written(seed:int) -> bytes:
    "An image of one of the modes, sizes and formats that Pillow writes."
    rng = random.Random(seed)
    Image.init()
    noise = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), np.uint8)
    while True:
        file, mode = io.BytesIO(), rng.choice(MODES)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                image = Image.fromarray(noise).resize(rng.choice(SIZES))
                image = (image.convert('L') if mode == 'I;16' else image).convert(mode)
                image.save(file, rng.choice([k for k in sorted(Image.SAVE) if k != 'PDF']))
        except Exception: continue  # this format does not know that mode
        if file.tell(): return file.getvalue()


def attack_image(seed:int, folder:Path) -> str:
    "The outcome of reading one damaged image."
    from pix2seq.images import read_image
    rng, path = random.Random(seed), folder/'image.jpg'
    data = written(seed)
    path.write_bytes(rng.choice((lambda data, rng: data, cut, flip, splice))(data, rng))
    return outcome(lambda: read_image(path), lambda image: image.ndim == 3 and len(image) == 3)


# Annotations
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


def damaged_text(value, rng:random.Random) -> bytes:
    "JSON of a damaged value; one in three is also damaged as bytes."
    data = json.dumps(damaged(value, rng)).encode()
    return rng.choice((cut, flip, splice))(data, rng) if rng.random() < .33 else data


def attack_annotations(seed:int, folder:Path) -> str:
    "The outcome of opening one damaged annotation file and reading its samples."
    from pix2seq.data import CocoDataset
    for i in range(1, 5):
        if not (folder/f'{i}.png').exists(): Image.new('RGB', (20, 16)).save(folder/f'{i}.png')
    path = folder/'annotations.json'
    path.write_bytes(damaged_text(document(), random.Random(seed)))
    def read():
        with contextlib.redirect_stdout(io.StringIO()):
            dataset = CocoDataset(folder, path)
            return [dataset[i] for i in range(len(dataset))]
    return outcome(read, sound)


def sound(samples:list) -> bool:
    "Every box lies inside its image and has a label."
    for sample in samples:
        boxes, (height, width) = sample['boxes'], sample['image'].shape[-2:]
        if len(boxes) != len(sample['labels']) or (sample['labels'] < 0).any(): return False
        if (boxes < 0).any() or (boxes[:, [0, 2]] > width).any(): return False
        if (boxes[:, [1, 3]] > height).any(): return False
    return True


def attack_results(seed:int, folder:Path) -> str:
    "The outcome of loading one damaged results file of a sound data set."
    from pix2seq.data import CocoDataset
    from pix2seq.evaluation import load_results
    for i in range(1, 5):
        if not (folder/f'{i}.png').exists(): Image.new('RGB', (20, 16)).save(folder/f'{i}.png')
    truth, path = folder/'annotations.json', folder/'results.json'
    if not truth.exists(): truth.write_text(json.dumps(document()))
    rows = [dict(image_id=i % 4 + 1, category_id=i % 3 + 1, bbox=[1, 2, 3, 4], score=.1*i)
            for i in range(6)]
    path.write_bytes(damaged_text(rows, random.Random(seed)))
    return outcome(lambda: load_results(path, CocoDataset(folder, truth)))


ATTACKS = {'images': attack_image, 'annotation files': attack_annotations,
           'results files': attack_results}


def run(number:int, attacks:dict=ATTACKS, first:int=0) -> Table:
    "So many inputs of each kind, each with its seed."
    table = Table()
    with tempfile.TemporaryDirectory() as place:
        for kind, attack in attacks.items():
            folder = Path(place)/kind.replace(' ', '-')
            folder.mkdir()
            for seed in range(first, first + number): table.add(kind, seed, attack(seed, folder))
    return table


if __name__ == '__main__':
    table = run(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    print(table)
    for failure in table.failures[:40]: print(*failure)
    sys.exit(bool(table.failures))
