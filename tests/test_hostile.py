"""What a stranger gives ends right or in one clear sentence, and nobody's files are lost.

Named cases here; generated ones by the thousand are in `attack.py`."""
import hashlib
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from attack_files import document, results
from attack_models import GONE, change_config, detect, index_cases, write_model
from published import write_published, writer
from safetensors.torch import load_file, save_file

from pix2seq import tf_checkpoint
from pix2seq.coco import PARTS, get_coco
from pix2seq.coco_file import make_index
from pix2seq.data import CocoDataset
from pix2seq.download import download
from pix2seq.model import Pix2Seq
from pix2seq.official import OFFICIAL, convert
from pix2seq.pretrained import load_model
from pix2seq.results import load_results
from pix2seq.tf_checkpoint import TensorFlowCheckpoint


def said(call) -> str|None: # the sentence, or None where all went well
    "How a call ended; what is neither right nor one sentence passes through as it is."
    try: call()
    except (ValueError, OSError) as e:
        assert type(e) in (ValueError, FileNotFoundError, FileExistsError, ConnectionError, OSError)
        sentence = str(e)
        assert sentence.isprintable() and 10 < len(sentence) < 1000, sentence
        return sentence


def peak_memory() -> float: # MiB
    "The most that this process ever held."
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024


# A stranger's config
@pytest.mark.parametrize("field, value", [
    ("decoder_layers", 10**6), ("encoder_layers", 999), ("resnet_depths", [1000]*5),
    ("vocab_size", 10**12), ("vocab_size", 1 << 24), ("encoder_mlp_dim", 1 << 18),
    ("image_size", [16_000, 16_000]), ("resnet_width", 4096),
])
def test_config_neither_hangs_nor_allocates(tmp_path, field, value):
    folder = write_model(tmp_path/"model")
    change_config(folder, field, value)
    before, begin = peak_memory(), time.perf_counter()
    assert str(folder) in said(lambda: Pix2Seq.from_pretrained(folder))
    assert peak_memory() - before < 100 and time.perf_counter() - begin < 10


def test_missing_field_is_no_resnet50(tmp_path):
    folder = write_model(tmp_path/"model")
    change_config(folder, "resnet_depths", GONE)
    with pytest.raises(ValueError, match="config.json .* lacks resnet_depths"): load_model(folder)


# Annotations and results
@pytest.mark.parametrize("kind, key, value, match", [
    ("annotations", "id", "\x1b[2J", "annotation '\\x1b[2J' has no 'image_id'"),
    ("images", "file_name", "\ud800.png", "file_name '\\ud800.png', which is not valid Unicode"),
    ("images", "id", "\ud800", "image id '\\ud800', which is not valid Unicode"),
])
def test_texts_that_cannot_be_printed(tmp_path, kind, key, value, match):
    record, path = document(), tmp_path/"a.json"
    record[kind] = [dict(id=value)] if kind == "annotations" else [record[kind][0] | {key: value}]
    if kind == "images": record["annotations"] = []
    path.write_text(json.dumps(record))
    assert match in said(lambda: make_index(path))


def test_box_that_cannot_be_printed(tmp_path):
    results(0, tmp_path)
    row = dict(image_id=1, category_id=1, bbox="\x1b[2J", score=1)
    (tmp_path/"results.json").write_text(json.dumps([row]))
    dataset = CocoDataset(tmp_path, tmp_path/"annotations.json")
    assert "bbox '\\x1b[2J'" in said(lambda: load_results(tmp_path/"results.json", dataset))


# Weights
def test_nan_is_not_no_objects(tmp_path):
    folder = write_model(tmp_path/"model")
    weights = load_file(folder/"model.safetensors")
    weights["encoder.norm.weight"][0] = float("nan")
    save_file(weights, folder/"model.safetensors")
    with pytest.raises(ValueError, match="encoder.norm.weight has NaN"): detect(folder)
    weights["encoder.norm.weight"] = torch.ones_like(weights["encoder.norm.weight"]).int()
    save_file(weights, folder/"model.safetensors")
    with pytest.raises(ValueError, match="encoder.norm.weight is of int32"): detect(folder)


def test_checksums_of_a_run(tmp_path):
    folder = write_model(tmp_path/"run"/"checkpoint")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    (folder/"complete.json").write_text(json.dumps(dict(step=3, sha256=sums)))
    load_model(tmp_path/"run")
    weights = load_file(folder/"model.safetensors")
    weights["norm.bias"][0] += 1
    save_file(weights, folder/"model.safetensors")
    with pytest.raises(ValueError, match="model.safetensors is not as the run saved it"):
        load_model(tmp_path/"run")
    (folder/"complete.json").write_text("")
    with pytest.raises(ValueError, match="complete.json is damaged"): load_model(tmp_path/"run")


# Tables of a TensorFlow checkpoint
@pytest.fixture(scope="module")
def make() -> dict:
    "The names of the writer that the chapters' tests use."
    return writer()


def test_tables_that_lie(tmp_path, make, monkeypatch):
    monkeypatch.setattr(tf_checkpoint, "_MOST_ROWS", 1000)
    file = tmp_path/"ckpt-1.index"
    (tmp_path/"ckpt-1.data-00000-of-00001").write_bytes(b"1234")
    for name, rows in index_cases(make).items():
        file.write_bytes(make["index_of"](rows, len(rows)))
        before, begin = peak_memory(), time.perf_counter()
        sentence = said(lambda: TensorFlowCheckpoint(file))
        assert sentence and "ckpt-1" in sentence, name
        assert peak_memory() - before < 300 and time.perf_counter() - begin < 20, name


def test_numbers_of_a_published_checkpoint(tmp_path, make):
    key = "model/proj/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    for change, match in ((lambda v: v*float("nan"), "NaN"), (lambda v: v.astype("<i8"), "type 9")):
        folder = tmp_path/match.replace(" ", "")
        def changed(values, change=change): return values | {key: change(values[key])}
        make["write_official"](make["small"](), folder, change=changed)
        with pytest.raises(ValueError, match=match): Pix2Seq.from_official(folder)


# Downloads
@pytest.fixture
def server():
    "A server that answers with `server.answer(headers)`: status, headers and body."
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args): pass

        def do_GET(self):
            server.asked.append(dict(self.headers))
            status, headers, body = server.answer(self.headers)
            self.send_response(status, server.reason)
            for name, value in headers.items(): self.send_header(name, value)
            self.end_headers()
            for piece in [body] if isinstance(body, bytes) else body: self.wfile.write(piece)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.reason, server.handle_error = [], None, lambda *who: None
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("headers, match", [
    ({"Content-Length": "0"}, "the file is empty"),
    ({"Content-Length": "5", "Content-Encoding": "gzip"}, "packed, as gzip"),
    ({"Content-Length": "5", "Content-Type": "text/html"}, "a web page came"),
    ({"Content-Length": "five"}, "how long"), ({}, "how long"),
    ({"Content-Length": "9"*17}, "room for"),
])
def test_answers_that_are_no_file(tmp_path, server, headers, match):
    server.answer = lambda asked: (200, headers, b"12345")
    with pytest.raises(OSError, match=match): download(server.url, tmp_path/"a", pause=0)
    assert {file.name for file in tmp_path.iterdir()} <= {"a.lock"} # somebody may wait for it


def test_words_of_a_server(tmp_path, server):
    server.answer, server.reason = lambda asked: (403, {}, b""), "\x1b[2J\x1b]0;owned\x07"
    sentence = said(lambda: download(server.url, tmp_path/"a"))
    assert "the server answers 403 ?[2J" in sentence


def test_another_file_on_resume(tmp_path, server):
    old, new = bytes(100), bytes(range(100))
    server.answer = lambda asked: (200, {"Content-Length": "100", "ETag": '"1"'}, old[:40])
    with pytest.raises(ConnectionError): download(server.url, tmp_path/"a", 1)
    def changed(asked): # takes no heed of If-Range
        if "Range" not in asked: return 200, {"Content-Length": "100", "ETag": '"2"'}, new
        rest = {"Content-Length": "60", "Content-Range": "bytes 40-99/100", "ETag": '"2"'}
        return 206, rest, new[40:]
    server.answer = changed
    download(server.url, tmp_path/"a", pause=0)
    assert (tmp_path/"a").read_bytes() == new
    assert server.asked[1]["If-Range"] == '"1"'


def test_whole_part_is_not_fetched_again(tmp_path, server, monkeypatch):
    server.answer = lambda asked: (200, {"Content-Length": "3"}, b"abc")
    def killed(*args): raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        download(server.url, tmp_path/"a")
    download(server.url, tmp_path/"a")
    assert ((tmp_path/"a").read_bytes(), len(server.asked)) == (b"abc", 1)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_trickle_has_an_end(tmp_path, server, monkeypatch):
    monkeypatch.setattr("pix2seq.download._PATIENCE", .3)
    pause = threading.Event()
    pieces = (pause.wait(.02) or b"x" for _ in range(500))
    server.answer = lambda asked: (200, {"Content-Length": "500"}, pieces)
    with pytest.raises(ConnectionError, match="bytes came in 0.3 s"):
        download(server.url, tmp_path/"a", 1)
    server.answer = lambda asked: pause.wait(2) or (403, {}, b"")
    with pytest.raises(ConnectionError, match="no answer in 0.3 s"):
        download(server.url, tmp_path/"b", 1)


def test_login_page_is_not_kept(tmp_path, server, monkeypatch):
    monkeypatch.setenv("PIX2SEQ_BUCKET", server.url)
    monkeypatch.setenv("PIX2SEQ_CACHE", str(tmp_path))
    page = b"<!doctype html><title>Please log in"
    server.answer = lambda asked: (200, {"Content-Length": str(len(page))}, page)
    for kept in (False, True): # fetched now, or kept by an earlier version
        state = tmp_path/OFFICIAL["coco-vit_b-640"]/"checkpoint"
        if kept: state.write_bytes(page)
        asked = len(server.asked)
        sentence = said(lambda: Pix2Seq.from_official("coco-vit_b-640"))
        assert "does not name a checkpoint" in sentence and len(server.asked) > asked
        assert state.exists() == kept


# Nothing lost
@pytest.mark.skipif(os.name != "posix", reason="links need rights")
def test_part_of_somebody_else(tmp_path, server):
    server.answer = lambda asked: (200, {"Content-Length": "3"}, b"abc")
    part, mine = tmp_path/"a.part", tmp_path/"mine"
    mine.write_bytes(b"mine")
    part.symlink_to(mine)
    with pytest.raises(OSError, match="is a link"): download(server.url, tmp_path/"a")
    part.unlink()
    part.write_bytes(b"a browser's")
    with pytest.raises(OSError, match="not begun by this command"):
        download(server.url, tmp_path/"a")
    assert (mine.read_bytes(), part.read_bytes()) == (b"mine", b"a browser's")


def test_convert_keeps_a_part(tmp_path):
    folder = write_published(tmp_path/"tf")
    (tmp_path/"out.part").mkdir()
    (tmp_path/"out.part"/"thesis.txt").write_text("all of it")
    convert(folder, tmp_path/"out")
    assert (tmp_path/"out.part"/"thesis.txt").read_text() == "all of it"
    Pix2Seq.from_pretrained(tmp_path/"out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "out.part", "tf"]


def test_own_archives_stay(tmp_path):
    wrong = tmp_path/"annotations_trainval2017.zip"
    wrong.write_bytes(b"five years of work")
    with pytest.raises(ValueError, match="It stays"): get_coco(tmp_path, parts=(small(PARTS[0]),))
    assert wrong.read_bytes() == b"five years of work"
    good = tmp_path/"val2017.zip"
    with ZipFile(good, "w") as archive: archive.writestr("val2017/1.jpg", b"an image")
    content = good.read_bytes()
    part = small(PARTS[1], hashlib.md5(content).hexdigest())
    get_coco(tmp_path, parts=(part,), counts={})
    assert good.read_bytes() == content and (tmp_path/"val2017/1.jpg").read_bytes() == b"an image"


def small(part, md5:str="none"):
    "A part of COCO with one file, for which there is room."
    return part._replace(md5=md5, size=1, unpacked=1, files=1)
