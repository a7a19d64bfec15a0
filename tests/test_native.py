"""The step in C++ under sanitizers, its cache under attack, and CUDA graphs on a CPU.

`pytest -m attack tests/test_native.py -s` runs the long form and prints how many calls it made."""
import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pix2seq import native
from pix2seq.digits import DigitScenes
from pix2seq.engine import Engine
from pix2seq.model import Pix2Seq
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.sampling import Reader, generate
from pix2seq.step import PlainLinear, set_aside

TINY = dict(DIM=8, HEADS=2, WIDE=8, EPS="1e-6f", Weight="float")
SANITIZERS = "address,undefined,float-cast-overflow"
DRIVER = Path(__file__).with_name("native_driver.cpp")
ROOT = Path(__file__).parent.parent
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

def builds(text:str, *options:str, file:str|Path=os.devnull) -> bool:
    "Whether this machine's compiler accepts a text."
    command = "g++", *native.OPTIONS, *options, "-o", str(file), "-"
    try: done = subprocess.run(command, input=text, text=True, capture_output=True)
    except OSError: return False
    return done.returncode == 0

with tempfile.TemporaryDirectory() as tmp:
    HERE = builds("int one() { return 1; }", "-shared", "-fPIC", file=f"{tmp}/one.so")
    SANITIZED = HERE and builds("int main() {}", f"-fsanitize={SANITIZERS}", file=f"{tmp}/main")
needs_compiler = pytest.mark.skipif(not HERE, reason="no g++ that fits")
needs_sanitizer = pytest.mark.skipif(not SANITIZED, reason="no g++ with sanitizers")


# Sanitizers

def clean_calls(folder:Path, shape:tuple, weight:str, seed:int, calls:int) -> int:
    "Build the step and its driver with sanitizers, make the calls; how many were clean."
    names = dict(zip(("DIM", "HEADS", "WIDE"), shape), EPS="1e-6f", Weight=weight)
    options = [f"-D{name}={value}" for name, value in names.items()]
    options += f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-g1"
    text, driver = DRIVER.read_text(encoding="utf-8"), folder/"driver"
    assert builds(text, *options, f"-I{native.SOURCE.parent}", file=driver)
    quiet = dict(ASAN_OPTIONS="detect_leaks=0", OMP_WAIT_POLICY="passive") # no busy waiting
    done = subprocess.run([driver, str(seed), str(calls)], capture_output=True, text=True,
                          env=os.environ | quiet, timeout=500)
    assert done.returncode == 0, done.stderr[:3000]
    return int(done.stdout.split()[0])


@needs_sanitizer
def test_few_sanitized_calls(tmp_path):
    assert clean_calls(tmp_path, (12, 3, 20), "int8_t", seed=1, calls=340) == 340


@pytest.mark.attack
@needs_sanitizer
def test_many_sanitized_calls(tmp_path):
    shapes = ((4, 1, 4), (4, 4, 8), (12, 3, 20), (20, 5, 4), (28, 7, 36), (36, 9, 12),
              (16, 1, 68), (32, 8, 64))
    kinds = [(shape, weight) for shape in shapes for weight in ("float", "int8_t")]
    clean = sum(clean_calls(tmp_path, *kind, seed=i, calls=1300) for i, kind in enumerate(kinds))
    print(f"\n{clean} calls of step and head under sanitizers, all clean")
    assert clean >= 20_000


# The source

REGION = "// region: "


def regions(text:str) -> dict[str,str]:
    "The parts of the source by name."
    parts = (part.split("\n", 1) for part in text.split(REGION)[1:])
    return {name: code.rstrip() for name, code in parts}


def test_the_chapter_shows_the_file():
    chapters = [path.read_text(encoding="utf-8") for path in (ROOT/"nbs").glob("*.ipynb")]
    chapter = next(text for text in chapters if "#| default_exp native" in text)
    outputs = sum((cell.get("outputs", []) for cell in json.loads(chapter)["cells"]), [])
    texts = ["".join(output.get("data", {}).get("text/markdown", "")) for output in outputs]
    shown = [text.removeprefix("```cpp\n").removesuffix("\n```") for text in texts if text]
    assert shown == list(regions(native.SOURCE.read_text(encoding="utf-8")).values())


def test_an_editor_can_read_the_source_alone():
    text = native.SOURCE.read_text(encoding="utf-8")
    assert max(map(len, text.splitlines())) <= 100
    assert not HERE or builds(text, "-fsyntax-only")


@needs_compiler
def test_an_error_names_the_file_and_the_line(cache, tmp_path, monkeypatch):
    lines = native.SOURCE.read_text(encoding="utf-8").splitlines()
    number = next(i for i, line in enumerate(lines) if "float mean = 0" in line)
    lines[number] += " oops;"
    file = tmp_path/'an "odd" folder'/"step.cpp"
    file.parent.mkdir()
    file.write_text("\n".join(lines))
    monkeypatch.setattr(native, "SOURCE", file)
    with pytest.raises(RuntimeError, match="cannot compile for this machine") as error: start()
    assert f"{file}:{number + 1}:" in str(error.value)


def test_a_missing_source_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "SOURCE", tmp_path/"step.cpp")
    with pytest.raises(RuntimeError, match="step.cpp cannot be read: No such file"): start()


@needs_compiler
def test_another_text_or_other_options_are_compiled_again(cache, tmp_path, monkeypatch):
    start()
    (tmp_path/"step.cpp").write_bytes(native.SOURCE.read_bytes() + b"// changed")
    with monkeypatch.context() as changed:
        changed.setattr(native, "SOURCE", tmp_path/"step.cpp")
        start()
    assert len(list(cache.glob("*.so"))) == 2
    monkeypatch.setattr(native, "OPTIONS", ("-O2", *native.OPTIONS[1:]))
    start()
    assert len(list(cache.glob("*.so"))) == 3
    assert works(start()[0]) and len(list(cache.glob("*.so"))) == 3


# Small products

def seeded(seed:int=0) -> torch.Generator: return torch.Generator().manual_seed(seed)


@needs_compiler
@pytest.mark.parametrize("bins", [2, 3, 4])
def test_few_bins_are_read_as_without_cpp(bins):
    torch.manual_seed(0)
    config = Pix2SeqConfig.from_name("digits", quantization_bins=bins, coord_init="normal")
    model, images = Pix2Seq(config).eval(), torch.rand(3, 3, 96, 96)
    engine = Engine(model)
    assert isinstance(engine.decoder, native.NativeDecoder)
    ours, theirs = (generate(model, images, generator=seeded(), reader=reader, stop="never")
                    for reader in (engine, Reader(model)))
    assert torch.equal(ours.tokens, theirs.tokens)
    assert (ours.logits - theirs.logits).abs().max() < 1e-4


@needs_compiler
def test_what_does_not_fit_is_refused():
    model = Pix2Seq.from_pretrained("digits")
    config, decoder = model.config, native.NativeDecoder(model, PlainLinear)
    past, image = (set_aside(config, 2, places) for places in (8, 36))
    short, read = [[x[:, :, :4] for x in layer] for layer in past], torch.tensor([5, 5])
    turned = [[x.transpose(2, 3).contiguous().transpose(2, 3) for x in layer] for layer in past]
    half = [[x.half() for x in layer] for layer in past]
    with torch.no_grad():
        assert decoder.hidden(read, torch.tensor([3]), short, image).isfinite().all()
        for place in (-1, 4, 2**40):
            with pytest.raises((ValueError, IndexError)):
                decoder.hidden(read, torch.tensor([place]), short, image)
        with pytest.raises(ValueError, match="there is room for 4"):
            decoder.hidden(read, torch.tensor([4]), short, image)
        for bad in (turned, half, past[:1], [[x[:1] for x in layer] for layer in past]):
            with pytest.raises(ValueError, match="do not fit"):
                decoder.hidden(read, torch.tensor([3]), bad, image)
        for bad in (image[:1], [[x[:, :, :30] for x in layer] for layer in image]):
            with pytest.raises(ValueError, match="do not fit"):
                decoder.hidden(read, torch.tensor([3]), past, bad)
        with pytest.raises(ValueError, match="a product of width"):
            decoder.coords(torch.rand(2, config.decoder_dim + 4))


# The cache

@functools.cache
def compiled(source, *command, compile=native._compile_library):
    "What a compiler makes of the source: once for all tests, most of which ask for the same."
    return compile(command, source)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    "An empty cache of this test's own."
    monkeypatch.setenv("PIX2SEQ_CACHE", str(tmp_path/"cache"))
    monkeypatch.setattr(native, "_compile_library",
                        lambda command, source: compiled(source, *command))
    yield tmp_path/"cache"/"native"
    native._library_or_reason.cache_clear()


def start() -> tuple:
    "Ask for a library as a new process does: it, and the warnings."
    native._library_or_reason.cache_clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        library = native.native_library(**TINY)
    return library, [str(warning.message) for warning in warned]


def works(library) -> bool:
    "Whether a library multiplies."
    weight, bias, x = torch.rand(5, 8), torch.rand(5), torch.rand(2, 8)
    ours = native.NativeLinear(weight, bias, library.head)(x)
    return torch.allclose(ours, x@weight.T + bias, atol=1e-5)


def kept(cache:Path) -> tuple[Path,Path]:
    "The library and the checksum of a cache."
    return next(cache.glob("*.so")), next(cache.glob("*.sha256"))


def plant(cache:Path, code:bytes) -> None:
    "Put other code in the library's place, with its right checksum."
    file, checksum = kept(cache)
    file.write_bytes(code)
    checksum.write_text(f"{hashlib.sha256(code).hexdigest()}  {file.name}\n")


@pytest.fixture
def evil(tmp_path):
    "A library that leaves a mark when it is loaded, and the mark."
    mark = tmp_path/"mark"
    text = ("#include <cstdio>\n__attribute__((constructor)) void run() {"
            f'fclose(fopen("{mark}", "w")); }}')
    assert builds(text, "-shared", "-fPIC", file=tmp_path/"evil.so")
    return (tmp_path/"evil.so").read_bytes(), mark


@needs_compiler
def test_what_is_kept_is_private_and_whole(cache):
    cache.parent.mkdir()
    old = os.umask(0)                                    # whatever files get elsewhere
    try: assert works(start()[0])
    finally: os.umask(old)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept(cache))
    before = [path.stat().st_mtime_ns for path in kept(cache)]
    library, warned = start()
    assert works(library) and not warned
    assert before == [path.stat().st_mtime_ns for path in kept(cache)]


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_that_others_may_write_is_not_read(cache, evil, mode):
    start()
    code, mark = evil
    plant(cache, code)
    cache.chmod(mode)
    library, warned = start()
    assert works(library) and not mark.exists()
    assert len(warned) == 1 and "others may write to it" in warned[0]
    assert kept(cache)[0].read_bytes() == code           # nothing was written there either


@needs_compiler
def test_a_cache_that_anybody_may_write_is_not_used(cache, evil):
    start()
    plant(cache, evil[0])
    cache.parent.chmod(0o777)
    library, warned = start()
    assert works(library) and not evil[1].exists()
    assert len(warned) == 1 and f"anybody may write to {cache.parent}" in warned[0]
    cache.parent.chmod(0o1777)                           # as /tmp: none may replace another's
    assert start()[1] == []                              # so what is there is this user's own
    assert evil[1].exists()


@needs_compiler
def test_a_link_to_another_folder_is_not_followed(cache, tmp_path):
    cache.parent.mkdir()
    (tmp_path/"precious").mkdir(mode=0o700)
    cache.symlink_to(tmp_path/"precious")
    library, warned = start()
    assert works(library) and len(warned) == 1 and not list((tmp_path/"precious").iterdir())


@needs_compiler
@pytest.mark.skipif(not IS_ROOT, reason="root alone gives files away")
@pytest.mark.parametrize("whose", ["folder", "library", "checksum"])
def test_what_belongs_to_others_is_not_read(cache, evil, whose):
    start()
    plant(cache, evil[0])
    os.chown(dict(zip(("folder", "library", "checksum"), (cache, *kept(cache))))[whose], 4321, 4321)
    library, warned = start()
    assert works(library) and not evil[1].exists()
    assert len(warned) == (whose == "folder")
    if warned: assert "belongs to another user" in warned[0]
    else: assert start()[1] == [] and kept(cache)[0].stat().st_uid == 0


@needs_compiler
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_others_may_write_is_compiled_again(cache, evil, which):
    start()
    plant(cache, evil[0])
    kept(cache)[which].chmod(0o666)
    library, warned = start()
    assert works(library) and not warned and not evil[1].exists()


def damage(file:Path, how:str) -> None:
    "Damage a file, or put something else in its place."
    code = file.read_bytes()
    if how == "empty": file.write_bytes(b"")
    elif how == "half": file.write_bytes(code[:len(code)//2])
    elif how == "one byte": file.write_bytes(code[:5000] + b"?" + code[5001:])
    else: file.unlink()
    if how == "FIFO": os.mkfifo(file)
    if how == "link": file.symlink_to(shutil.copy(sys.executable, file.parent/"other"))
    if how == "loop": file.symlink_to(file)


@needs_compiler
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["empty", "half", "one byte", "missing", "FIFO", "link", "loop"])
def test_damage_is_compiled_away_once(cache, how, which):
    start()
    whole = kept(cache)[0].read_bytes()
    damage(kept(cache)[which], how)
    library, warned = start()
    assert works(library) and not warned
    assert kept(cache)[0].read_bytes() == whole
    before = kept(cache)[0].stat().st_mtime_ns
    start()
    assert kept(cache)[0].stat().st_mtime_ns == before


@needs_compiler
def test_a_folder_in_the_place_of_a_library_is_left_alone(cache):
    start()
    file = kept(cache)[0]
    file.unlink()
    file.mkdir()
    library, warned = start()
    assert works(library) and len(warned) == 1 and file.is_dir()


@needs_compiler
def test_a_library_of_another_machine_is_compiled_again(cache):
    start()
    plant(cache, b"made for another C library")
    library, warned = start()
    assert works(library) and not warned
    assert start()[1] == [] and len(kept(cache)[0].read_bytes()) > 1000


@needs_compiler
def test_a_loaded_library_survives_damage_to_its_file(cache):
    start()
    library, _ = start()
    kept(cache)[0].write_bytes(b"")                      # what is mapped would end the process
    assert works(library)


@needs_compiler
def test_bytes_reach_the_disk_before_they_get_their_name(cache, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("sync"), sync(file))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(Path(b).suffix), replace(a, b))[1])
    start()
    assert done == ["sync", ".so", "sync", ".sha256"]


@needs_compiler
def test_a_cache_that_cannot_be_written_is_named_once(cache):
    cache.parent.touch()
    library, warned = start()
    assert works(library) and len(warned) == 1
    assert "PIX2SEQ_CACHE names another folder" in warned[0]


@needs_compiler
@pytest.mark.skipif(not IS_ROOT, reason="root alone mounts")
@pytest.mark.parametrize("noexec", [("cache",), ("tmp",), ("cache", "tmp")])
def test_folders_that_hold_no_programs(cache, tmp_path, noexec):
    code = f"""
        import warnings; from pix2seq import native
        try: native.native_library(**{TINY!r})
        except RuntimeError as e: print("none:", e)
        else: print("made")"""
    for name in ("cache", "tmp"): (tmp_path/name).mkdir()
    mounts = "".join(f"mount -t tmpfs -o noexec tmpfs {tmp_path/name} && " for name in noexec)
    command = ["unshare", "-m", "sh", "-c", f'{mounts} exec "$0" -c "$1"', sys.executable]
    done = subprocess.run([*command, textwrap.dedent(code)], capture_output=True, text=True,
                          env=dict(os.environ, TMPDIR=str(tmp_path/"tmp")), timeout=300)
    if "mount" in done.stderr or "unshare" in done.stderr: pytest.skip("nothing can be mounted")
    printed = done.stdout.strip()
    assert printed.startswith("none: the compiled library cannot be loaded") if len(noexec) == 2 \
        else printed == "made", done.stderr


# Compilers

def compiler(tmp_path:Path, text:str) -> str:
    "A script in a compiler's place."
    path = tmp_path/"compiler"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)

WHERE_OUT = """while [ "$2" != "" ]; do [ "$1" = -o ] && out=$2; shift; done
[ "$out" = "" ] && exit
"""
BROKEN = dict(
    fails="echo 'error: broken' >&2; exit 1", silent="exit 3", nothing="exit 0",
    killed="kill -9 $$",
    hangs="sleep 1000 & sleep 1000", latin="printf 'error: \\351' >&2; exit 1",
    garbage=WHERE_OUT + "echo garbage > $out", empty=WHERE_OUT + ": > $out",
    half=WHERE_OUT + "g++ -x c++ -shared -fPIC -o $out /dev/null; truncate -s 9000 $out",
    other=WHERE_OUT + "g++ -x c++ -shared -fPIC -o $out /dev/null")


@needs_compiler
@pytest.mark.parametrize("how", [*BROKEN, "missing", "folder", "text"])
def test_reading_goes_without_a_compiler(cache, tmp_path, monkeypatch, how):
    paths = dict(missing=str(tmp_path/"none"), folder=str(tmp_path), text=__file__)
    monkeypatch.setenv("CXX", paths.get(how) or compiler(tmp_path, BROKEN[how]))
    monkeypatch.setattr(native, "TIMEOUT", 5)
    model, start = Pix2Seq.from_pretrained("digits"), time.monotonic()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        engines = [Engine(model) for _ in range(3)]
    assert time.monotonic() - start < 15
    told = [str(one.message) for one in warned if one.category is UserWarning] # others are Python's
    assert len(told) == 1 and told[0].startswith("reading without C++, more slowly:")
    images = torch.rand(1, 3, 96, 96)
    ours, theirs = (generate(model, images, temperature=0, reader=reader, max_objects=1)
                    for reader in (engines[2], Reader(model)))
    assert torch.equal(ours.tokens, theirs.tokens)
    assert not list(cache.glob("*.so"))


def test_what_a_hanging_compiler_started_ends_too(cache, tmp_path, monkeypatch):
    pid = tmp_path/"pid"
    monkeypatch.setenv("CXX", compiler(tmp_path, f"sleep 1000 & echo $! > {pid}; wait"))
    monkeypatch.setattr(native, "TIMEOUT", 1)
    with pytest.raises(RuntimeError, match="did not end within 1 seconds"): start()
    time.sleep(.5)
    status = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


# CUDA graphs, recorded and replayed on a CPU

class Recorder(TorchDispatchMode):
    "Keeps every operation with its tensors, and puts back what was changed when it ends."
    not_captured = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_unique2",
                    "uniform_", "random_", "bernoulli_", "multinomial", "equal"}
    def __init__(self):
        super().__init__()
        self.calls, self.before = [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        if name in self.not_captured: raise RuntimeError(f"{name} waits for the device")
        for value, argument in zip(args, function._schema.arguments):
            if argument.alias_info and argument.alias_info.is_write:
                self.before.append((value, value.clone()))
        out = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, out))
        return out


class Graph:
    "In the place of `torch.cuda.CUDAGraph`."
    made = []
    def replay(self):
        for function, args, kwargs, out in self.calls:
            new = function(*args, **kwargs)
            if function._schema.is_mutable: continue
            for old, value in zip(tree_leaves(out), tree_leaves(new)):
                if old.data_ptr() != value.data_ptr(): old.copy_(value)


class Stream:
    "In the place of a stream: which device it was asked of."
    def __init__(self, device=None): self.device = device
    def wait_stream(self, other): pass


@contextlib.contextmanager
def capture(graph, **options):
    "In the place of `torch.cuda.graph`."
    recorder = Recorder()
    with recorder: yield
    for value, old in reversed(recorder.before): value.copy_(old)
    graph.calls, graph.options = recorder.calls, options
    Graph.made.append(graph)


@pytest.fixture
def recording(monkeypatch):
    "An engine that records, on a CPU; the plain reader beside it; the devices asked of streams."
    streams, pools = [], []
    def stream(device=None): return streams.append(device) or Stream(device)
    def pool(): return pools.append(len(pools)) or pools[-1]
    fakes = dict(CUDAGraph=Graph, graph=capture, Stream=stream, current_stream=stream,
                 graph_pool_handle=pool, stream=lambda chosen: contextlib.nullcontext())
    for name, fake in fakes.items(): monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(Graph, "made", [])
    model = Pix2Seq.from_pretrained("digits")
    engine = Engine(model, native=False)
    engine.use_graphs = True
    return engine, Reader(model), streams


WAYS = (dict(temperature=0), dict(top_p=.4), dict(top_p=.9, top_k=50), dict(constrained=False),
        dict(top_p=.9, ordered=True), dict(constrained=False, ordered=True))


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_a_replayed_graph_reads_the_same(recording, how):
    engine, plain, _ = recording
    images = torch.stack([DigitScenes("val")[i]["image"]/255 for i in range(5)])
    for batch in (images, images[:1], images[[4, 2, 3]]):
        ours, theirs = (generate(plain.model, batch, generator=seeded(), reader=reader, **how)
                        for reader in (engine, plain))
        assert torch.equal(ours.tokens, theirs.tokens)
        assert (ours.logits.softmax(-1) - theirs.logits.softmax(-1)).abs().max() < 1e-4
    assert Graph.made


def test_graphs_name_their_device_pool_and_thread(recording, monkeypatch):
    engine, plain, streams = recording
    monkeypatch.setattr("pix2seq.engine.WINDOW", 8)      # many windows, so many graphs
    monkeypatch.setattr(engine, "pool", "the pool")
    generate(plain.model, torch.rand(2, 3, 96, 96), stop="never", reader=engine)
    assert len(Graph.made) > 2 and set(streams) == {engine.device}
    for graph in Graph.made:
        assert graph.options["capture_error_mode"] == "thread_local"
        assert graph.options["pool"] == "the pool"
        assert graph.options["stream"].device == engine.device


def test_a_pool_lives_as_long_as_its_graphs(recording):
    engine = recording[0]
    engine.device, engine.graphs = torch.device("cuda", 1), {"a way": {}}
    first = engine._pool()
    engine.graphs["a way"]["shapes"] = "a graph"
    assert engine._pool() == first
    engine.graphs.clear()
    assert engine._pool() != first                       # its memory went with its last graph


def test_graphs_do_not_grow_with_temperature(recording):
    engine, plain, _ = recording
    images = torch.rand(1, 3, 96, 96)
    for i in range(12):
        generate(plain.model, images, temperature=1 + i/10, reader=engine, max_objects=1)
    assert len(engine.graphs) == 4
    assert sum(map(len, engine.graphs.values())) == 4
    before = len(Graph.made)
    generate(plain.model, images, temperature=2.1, reader=engine, max_objects=1)
    assert len(Graph.made) == before                     # the last ones are still there
