"""Models, checkpoints and tables of variables by strangers.

What is tried is what a user calls, so that it is refused as a user sees it. The functions at the
end write the input of a seed, and give the arguments of `attack.outcome`."""
import json
import random
import shutil
import struct
from dataclasses import fields
from functools import cache
from pathlib import Path
from unittest.mock import patch

import torch
from published import SMALL, write_published
from safetensors.torch import load_file, save_file

from pix2seq import tf_checkpoint
from pix2seq.detector import Detector
from pix2seq.digits import DigitScenes
from pix2seq.model import Pix2Seq
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.saved_weights import bundled_weights
from pix2seq.tf_checkpoint import TensorFlowCheckpoint, read_index

SOURCE = bundled_weights()["digits"]
GONE = object()  # a field that is taken out
VALUES = [
    GONE, None, True, False, 0, 1, 2, 3, 7, 100, 1000, 10**6, 10**9, 10**12, 10**30, -1, -10**18,
    0., .5, 1., -.5, 1e-300, 1e300, float("nan"), float("inf"), "", "0", "128", "vit", "resnet",
    "\x1b[2J", "\ud800", "x"*10**5, [], [0], [1], [-1], [2, 3], [3, 3, 3], [10**9]*2, [.5]*3,
    [1]*1000, ["a"]*10, [None], [[1]], list(range(10)), {}, {"a": 1}, [[]]*10, [True, True],
]


def config_changes(
    source:Path=SOURCE, # a saved model
) -> list[tuple[str,str,object]]: # a name, a field and its new value
    "Every field with every value, and near its own value."
    record = json.loads((source/"config.json").read_text())
    near = {name: [value + 1, value - 1, value*2, -value, str(value), float(value)]
            for name, value in record.items() if type(value) is int}
    return [(f"{f.name}={'gone' if value is GONE else repr(value)[:40]}", f.name, value)
            for f in fields(Pix2SeqConfig) for value in VALUES + near.get(f.name, [])]


def write_model(folder:Path, source:Path=SOURCE) -> Path: # the same folder
    "A saved model of one's own, to be damaged."
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    return folder


def write_patches(folder:Path) -> Path: # the same folder
    "A small model of the other backbone, with room in its vocabulary."
    fields = SMALL | dict(backbone="vit", max_instances=4, image_mean=[.5]*3, image_std=[.2]*3)
    torch.manual_seed(0)
    Pix2Seq(Pix2SeqConfig(**fields)).save_pretrained(folder)
    return folder


def change_config(folder:Path, field:str, value:object, source:Path=SOURCE) -> None:
    "Set or take out a field of a saved model."
    file = folder/"config.json"
    record = json.loads((source/"config.json").read_text())
    if value is GONE: record.pop(field, None)
    else: record[field] = value
    file.write_text(json.dumps(record))


def _tensors(change):
    "A writer that changes the tensors of a saved model."
    def write(folder, rng):
        weights = load_file(SOURCE/"model.safetensors")
        name = rng.choice([k for k, v in weights.items() if v.is_floating_point()])
        change(weights, name, rng)
        save_file(weights, folder/"model.safetensors")
    return write

def _one(value):
    "A writer that sets one number of a tensor."
    def change(weights, name, rng):
        weights[name].view(-1)[rng.randrange(weights[name].numel())] = value
    return _tensors(change)

def _cast(dtype):
    "A writer that gives one tensor another type."
    def change(weights, name, rng): weights[name] = weights[name].to(dtype)
    return _tensors(change)

def _reshape(weights, name, rng): weights[name] = weights[name].reshape(1, -1)
def _drop(weights, name, rng): del weights[name]
def _rename(weights, name, rng): weights[name + "\x1b[2J"] = weights.pop(name)
def _minus(weights, name, rng): weights["encoder.backbone.bn1.running_var"] -= 9

def _header(change):
    "A writer that changes the header of a saved model's safetensors file."
    def write(folder, rng):
        data = (SOURCE/"model.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        change(header, rng.choice([name for name in header if name != "__metadata__"]), rng)
        text = json.dumps(header).encode()
        file = struct.pack("<Q", len(text)) + text + data[8 + size:]
        (folder/"model.safetensors").write_bytes(file)
    return write

def _entry(field, *values):
    "A change of a field in a header's entry."
    def change(header, name, rng):
        entry = header[name]
        entry[field] = rng.choice([value for value in values if value != entry[field]])
    return _header(change)

def _cut(folder, rng):
    data = (SOURCE/"model.safetensors").read_bytes()
    (folder/"model.safetensors").write_bytes(data[:rng.randrange(len(data))])

def _noise(folder, rng):
    data = bytearray((SOURCE/"model.safetensors").read_bytes())
    for _ in range(rng.choice([1, 5, 50])): data[rng.randrange(12_000)] = rng.randrange(256)
    (folder/"model.safetensors").write_bytes(data)

WEIGHTS = {
    "nan": _one(float("nan")), "inf": _one(float("inf")), "minus inf": _one(-float("inf")),
    "huge": _one(1e30),
    "int64": _cast(torch.int64), "int8": _cast(torch.int8), "bool": _cast(torch.bool),
    "complex": _cast(torch.complex64), "float8": _cast(torch.float8_e5m2),
    "shape": _tensors(_reshape), "dropped": _tensors(_drop), "renamed": _tensors(_rename),
    "negative variance": _tensors(_minus), "cut": _cut,
    "header type": _entry("dtype", "I32", "F64", "F4", "X", 3, None, "U8", "F8_E4M3"),
    "header shape": _entry("shape", [2**62, 4], [0], [-1], "a", [], [1]*100, [2.5], None),
    "header place": _entry("data_offsets", [0, 2**63], [5, 1], [-1, 3], [0], None, [0, 4]),
}
HARMLESS = {"half": _cast(torch.float16), "double": _cast(torch.float64)}
EITHER = {"noise": _noise} # a digit of a number may be another and nobody can tell


def index_cases(make:dict) -> dict[str,list]: # rows by name; see `published.writer`
    "Tables of variables whose checksums are right and whose numbers are not."
    numbers, part, varint = make["numbers"], make["part"], make["varint"]
    head, one = make["header_row"], numbers((1, 1), (5, 4))
    def keys(count, stem): return [(f"{stem}{i:08}".encode(), one) for i in range(count)]
    def sides(*lengths): return part(2, b"".join(part(2, numbers((1, n))) for n in lengths))
    return {
        "shards 2^40": [head(2**40)], "shards 10^5": [head(10**5)], "no shards": [head(0)],
        "shared prefixes": [head(1), *keys(200, "k"*20_000)],
        "long keys": [head(1), *keys(1000, "k"*2000)],
        "many rows": [head(1), *keys(1001, "k")],
        "huge varint": [head(1), (b"a", b"\x08" + b"\xff"*10**4 + b"\x01")],
        "65 bits": [head(1), (b"a", b"\x28" + b"\xff"*9 + b"\x7f")],
        "negative side": [head(1), (b"a", one + sides(2**64 - 1))],
        "large shape": [head(1), (b"a", one + sides(2**31, 2**31, 2**31))],
        "many axes": [head(1), (b"a", one + sides(*[1]*100))],
        "no such shard": [head(1), (b"a", one + numbers((3, 2**40)))],
        "far away": [head(1), (b"a", one + numbers((4, 2**62)))],
        "string of strings": [head(1), (b"a", numbers((1, 7), (5, 4)) + sides(2**60))],
        "bytes for a type": [head(1), (b"a", part(1, b"float"))],
        "bytes for a size": [head(1), (b"a", numbers((1, 1)) + part(5, b"x"))],
        "bytes for a shard": [head(1), (b"a", one + part(3, b"x"))],
        "number for a shape": [head(1), (b"a", one + numbers((2, 7)))],
        "number for a side": [head(1), (b"a", one + part(2, numbers((2, 7))))],
        "value cut off": [head(1), (b"a", varint(1 << 3 | 2) + varint(2**63))],
        "unknown wire type": [head(1), (b"a", b"\x09" + bytes(8))],
        "key of control codes": [head(1), (b"\x1b[2J", one)],
        "key that is no text": [head(1), (b"\xff\xfe", one)],
        "header of bytes": [(b"", part(1, b"x"))], "no header": [(b"z", one)],
        "keys twice": [head(1), (b"a", one), (b"a", one)],
        "other byte order": [(b"", numbers((1, 1), (2, 1)))],
    }


def damaged(data:bytes, rng:random.Random) -> bytes:
    "A table with some bytes replaced, cut or repeated."
    data, kind = bytearray(data), rng.randrange(4)
    if kind == 0: return bytes(data[:rng.randrange(len(data))])
    for _ in range(rng.choice([1, 3, 20])): data[rng.randrange(len(data))] = rng.randrange(256)
    if kind == 1: data[-48:-8] = rng.randbytes(40)
    if kind == 2:
        at = rng.randrange(len(data))
        data[at:at] = data[at:at + rng.randrange(1, 200)]
    return bytes(data)


# Inputs by seed
@cache
def scene() -> torch.Tensor:
    "An image with digits."
    return DigitScenes("val")[1]["image"]


def detect(folder:Path) -> list[dict]: # found objects
    "What a user does with a model: everything up to the boxes of an image."
    return Detector.from_pretrained(folder, "cpu")(scene())


@cache
def ordered_changes(source:Path) -> list[tuple]:
    "The changes of a config, mixed, so that some of them are of all fields."
    changes = config_changes(source)
    random.Random(0).shuffle(changes)
    return changes


def changed_config(seed:int, folder:Path, source:Path) -> dict:
    "A saved model with one field changed; one that is gone must not become a default."
    model = folder/"model"
    if not model.exists(): write_model(model, source)
    changes = ordered_changes(source)
    _, field, value = changes[seed % len(changes)]
    change_config(model, field, value, source)
    own = json.loads((source/"config.json").read_text()).get(field, GONE)
    def right(found):
        kept = value is not GONE or field == "levels" # older files lack that
        return kept and all(torch.isfinite(one[key]).all() for one in found
                            for key in ("boxes", "scores"))
    same = GONE not in (own, value) and json.dumps(own) == json.dumps(value)
    return dict(call=lambda: detect(model), right=right, name=str(model), whole=same)


def resnet_config(seed:int, folder:Path) -> dict:
    "A field of the bundled model."
    return changed_config(seed, folder, SOURCE)


def vit_config(seed:int, folder:Path) -> dict:
    "A field of a model of the other backbone."
    source = folder.with_name("vit")
    if not source.exists(): write_patches(source)
    return changed_config(seed, folder, source)


def weights(seed:int, folder:Path) -> dict:
    "A saved model with other weights."
    model, kinds = folder/"model", WEIGHTS | HARMLESS | EITHER
    if not model.exists(): write_model(model)
    kind = [*kinds][seed % len(kinds)]
    kinds[kind](model, random.Random(seed))
    def right(read):
        return kind not in WEIGHTS and all(torch.isfinite(p).all() for p in read.parameters())
    return dict(call=lambda: Pix2Seq.from_pretrained(model), right=right,
                name=str(model/"model.safetensors"), whole=kind in HARMLESS)


def _table(seed:int, folder:Path) -> tuple[Path,Path]: # the damaged file, and a whole one
    "A published checkpoint with a damaged table of variables."
    source, copied = folder.with_name("published"), folder/"tf"
    if not source.exists(): write_published(source)
    if not copied.exists(): shutil.copytree(source, copied)
    file, whole = copied/"ckpt-1.index", source/"ckpt-1.index"
    file.write_bytes(damaged(whole.read_bytes(), random.Random(seed)))
    return file, whole


def table(seed:int, folder:Path) -> dict:
    "With checksums as they were: what is read is what was written."
    file, whole = _table(seed, folder)
    return dict(call=lambda: read_index(file), name=str(file),
                right=lambda read: read == read_index(whole))


class _Right(int):
    "A checksum that agrees with every other."
    def __ne__(self, other): return False


def lying_table(seed:int, folder:Path) -> dict:
    "With every checksum right: what is read lies inside its files."
    file, _ = _table(seed, folder)
    def read():
        with patch.object(tf_checkpoint, "_masked", _Right): return TensorFlowCheckpoint(file)
    def right(read):
        return all(min(entry.offset, entry.size, *entry.shape, 0) >= 0
                   and entry.offset + entry.size <= read.shards[entry.shard].stat().st_size
                   for entry in read.entries.values())
    return dict(call=read, name=str(file.with_suffix("")), right=right)
