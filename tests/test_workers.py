"""Workers that load images, and what a machine may lack for them: they outlive signals to the
group, and whatever they die of is one sentence. Files that are written aside harm no others."""
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from pix2seq import workers
from pix2seq.checkpoint import save_checkpoint
from pix2seq.digits import DigitScenes
from pix2seq.download import download
from pix2seq.evaluation import evaluate
from pix2seq.kept_index import _keep
from pix2seq.machine import check_shared_memory
from pix2seq.model import Pix2Seq
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.predict import growing_results, save_picture
from pix2seq.results import save_results
from pix2seq.run_folder import claim_folder
from pix2seq.train_config import TrainConfig
from pix2seq.watching import Metrics
from pix2seq.workers import plain_workers, shielded, worker_options

ENV = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent.parent)}
POSIX = pytest.mark.skipif(os.name == 'nt', reason='signals and limits of POSIX systems')


# ---- files that are written aside

OBJECTS = dict(boxes=torch.zeros(0, 4), labels=torch.zeros(0).long(), scores=torch.zeros(0))


def grow(folder:Path) -> None:
    with growing_results(folder) as add: add([dict(image_id=1, category_id=1)])


WRITERS = {
    'results.json': (lambda path: save_results([], path), ['results.json.part']),
    'a.png': (lambda path: save_picture(path, torch.zeros(3, 32, 32).byte(), OBJECTS, .5, []),
              ['a.png.part']),
    'detections.json': (lambda path: grow(path.parent), ['detections.part']),
    'metrics.jsonl': (Metrics, ['metrics.new', 'metrics.jsonl.new']),
    'i.safetensors': (lambda path: _keep(path, [], dict(a=torch.ones(1)), {}),
                      [f'i.safetensors.{os.getpid()}']),
}


@pytest.mark.parametrize('name', WRITERS)
@pytest.mark.parametrize('kind', ['file', 'link'])
def test_what_lies_beside_is_left_alone(tmp_path, name, kind):
    "Fixed names such as `X.part` may be the user's own, or lead elsewhere."
    write, beside = WRITERS[name]
    (tmp_path/'apart').mkdir()
    precious = tmp_path/'apart'/'precious'
    precious.write_text('precious')
    for place in (tmp_path/name for name in beside):
        if kind == 'link': place.symlink_to(precious)
        else: place.write_text('mine')
    before = {place.name: place.lstat().st_ino for place in tmp_path.iterdir()}
    write(tmp_path/name)
    assert (tmp_path/name).is_file() and precious.read_text() == 'precious'
    after = {place.name: place.lstat().st_ino for place in tmp_path.iterdir()}
    assert before.items() <= after.items() and not list(tmp_path.glob('.*'))
    if kind == 'file': assert all((tmp_path/name).read_text() == 'mine' for name in beside)


@pytest.mark.parametrize('kind', ['file', 'link'])
def test_run_records_are_written_aside(tmp_path, kind):
    out, precious = tmp_path/'run', tmp_path/'precious'
    precious.write_text('precious')
    out.mkdir()
    for name in ('owner.json', 'config.json'):
        place = out/f'{name}.new'
        if kind == 'link': place.symlink_to(precious)
        else: place.write_text('mine')
    claim_folder(TrainConfig(out=str(out))).release(force=True)
    assert precious.read_text() == 'precious' and len(list(out.glob('*.new'))) == 2
    if kind == 'file': assert (out/'config.json.new').read_text() == 'mine'


def test_a_checkpoint_is_not_written_through_a_link(tmp_path):
    (tmp_path/'theirs').mkdir()
    (tmp_path/'checkpoint.new').symlink_to(tmp_path/'theirs')
    with pytest.raises(OSError, match='checkpoint.new is in the way'):
        save_checkpoint(tmp_path, Pix2Seq(Pix2SeqConfig.from_name('digits')), dict(step=1))
    assert not list((tmp_path/'theirs').iterdir()) and (tmp_path/'checkpoint.new').is_symlink()


@pytest.mark.parametrize('name', ['detections.jsonl', 'detections.before.jsonl'])
@pytest.mark.parametrize('kind', ['file', 'link'])
def test_rows_take_the_place_of_no_other_file(tmp_path, name, kind):
    precious = tmp_path/'precious'
    precious.write_text('{"image_id": 1}\n' if kind == 'link' else 'mine\n')
    place = tmp_path/'out'/name
    place.parent.mkdir()
    if kind == 'link': place.symlink_to(precious)
    else: shutil.copy(precious, place)
    with pytest.raises(FileExistsError, match=f'{name} is not what an interrupted run leaves'):
        grow(place.parent)
    assert place.read_text() == precious.read_text() and list(place.parent.iterdir()) == [place]


# ---- two downloads of one file

@contextmanager
def slow_server(content:bytes, asked:list):
    "Gives a file in eight pieces, a tenth of a second apart, from any byte on."
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args): pass
        def do_GET(self):
            start = int(self.headers.get('Range', 'bytes=0-')[6:-1])
            asked.append(start)
            self.send_response(206 if start else 200)
            for key, value in {'Content-Length': len(content) - start, 'ETag': '"1"',
                               'Content-Range': f'bytes {start}-{len(content) - 1}/{len(content)}'
                               }.items(): self.send_header(key, str(value))
            self.end_headers()
            size = len(content)//8
            for at in range(start, len(content), size):
                self.wfile.write(content[at:at + size])
                time.sleep(.1)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}/file'
    finally:
        server.shutdown()
        server.server_close()


FETCH = '''import sys
from pathlib import Path
from pix2seq.download import download
download(sys.argv[1], Path(sys.argv[2]), attempts=1)
'''


def test_two_downloads_of_one_file(tmp_path):
    "One fetches, the other waits and finds it there."
    content, asked = os.urandom(1 << 16), []
    with slow_server(content, asked) as url:
        command = [sys.executable, '-c', FETCH, url, tmp_path/'file']
        runs = [subprocess.Popen(command, env=ENV, text=True, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT) for _ in range(2)]
        threads = [threading.Thread(target=download, args=(url, tmp_path/'file')) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        for run in runs:
            said, _ = run.communicate(timeout=60)
            assert run.returncode == 0, said
        assert (tmp_path/'file').read_bytes() == content
    assert asked.count(0) <= 3 and len(asked) == asked.count(0)    # a late process finds a new file
    assert [path.name for path in tmp_path.iterdir()] == ['file']


# ---- workers

class Numbers:
    def __len__(self): return 40
    def __getitem__(self, i):
        time.sleep(.05)
        return i


@POSIX
@pytest.mark.parametrize('lacking', [False, True])
def test_workers_outlive_a_signal_to_the_group(monkeypatch, lacking):
    "Also on macOS, which does not tell who sent it."
    if lacking:
        for name in ('sigwaitinfo', 'sigtimedwait'): monkeypatch.delattr(signal, name, False)
    before = set(psutil.Process().children())
    monkeypatch.setattr(workers, 'BATCH_SECONDS', 20)
    loader = DataLoader(Numbers(), 4, collate_fn=list, **worker_options(2))
    with shielded(2): loaded = iter(loader)
    found = next(loaded)
    for worker in set(psutil.Process().children()) - before:
        for name in ('-TERM', '-INT'): subprocess.run(['kill', name, str(worker.pid)], check=True)
    for batch in loaded: found += batch
    assert found == [*range(40)]


class Hanging(DigitScenes):
    def __getitem__(self, i): return exec(self.trouble)


@POSIX
@pytest.mark.parametrize('lacking', [False, True])
@pytest.mark.parametrize('trouble', ['time.sleep(1000)', 'os.kill(os.getpid(), 9)'])
def test_evaluation_with_workers_that_hang_or_die(monkeypatch, trouble, lacking):
    if lacking: monkeypatch.delattr(signal, 'sigwaitinfo', False)
    monkeypatch.setattr(workers, 'BATCH_SECONDS', 1)
    monkeypatch.setattr(workers, '_GRACE', 1)
    scenes = Hanging('val', 8)
    scenes.trouble = trouble
    with pytest.raises(OSError, match='--workers 0 .*--shm-size'):
        evaluate(Pix2Seq(Pix2SeqConfig.from_name('digits')).eval(), scenes, workers=1)


def test_faults_of_ours_stay_what_they_are():
    for fault in (RuntimeError('Caught RuntimeError in DataLoader worker process 0.'),
                  FileNotFoundError(2, 'nothing there')):
        with pytest.raises(type(fault)) as told, plain_workers(): raise fault
        assert told.value is fault


def command(*words, limit:str='') -> subprocess.CompletedProcess:
    "A command of ours in a shell."
    line = f'{limit} exec "$@"'
    return subprocess.run(['bash', '-c', line, 'bash', sys.executable, '-m', 'pix2seq.commands',
                           *map(str, words)], env=ENV, text=True, capture_output=True, timeout=120)


TRAIN = ('train', '--steps', 2, '--batch-size', 2, '--warmup-steps', 1, '--eval-images', 2)


@POSIX
@pytest.mark.parametrize('words', [('eval', '--limit', 8), TRAIN])
def test_few_open_files(tmp_path, words):
    "Refused in a sentence that names the limit, where PyTorch's workers hang or end in traces."
    if words is TRAIN: words = *TRAIN, '--out', tmp_path/'run'
    done = command(*words, '--workers', 4, limit='ulimit -n 64;')
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    assert 'ulimit -n, or lower --workers' in done.stderr.splitlines()[-1]
    assert not (tmp_path/'run').exists()


@POSIX
def test_evaluation_needs_few_open_files():
    "One image is many tensors: with 200 files allowed, a batch of 50 was too much."
    done = command('eval', '--limit', 100, '--batch-size', 50, '--workers', 4, '--max-objects', 1,
                   limit='ulimit -n 128;')
    assert done.returncode == 0 and '100 images' in done.stdout, done.stderr


def batch_bytes(images:int=4) -> int:
    config = Pix2SeqConfig.from_name('digits')
    try: check_shared_memory(config, TrainConfig(workers=1), images)
    except OSError: pass
    height, width = config.image_size
    return images*(12*height*width + 100*TrainConfig().sequences*config.max_instances)


@pytest.mark.parametrize('batches, workers, fits', [(3.5, 1, False), (4.5, 1, True),
                                                    (8.5, 4, False), (10.5, 4, True)])
def test_shared_memory_for_prefetched_batches(monkeypatch, batches, workers, fits):
    "Room for one batch is not enough: each worker holds two ready, and two are in use."
    room, real = int(batches*batch_bytes()), os.statvfs
    def statvfs(path):
        status = real('/')
        return os.statvfs_result((1, 1, 10**9, room, room, *status[5:]))
    monkeypatch.setattr(os, 'statvfs', statvfs)
    def check(): check_shared_memory(Pix2SeqConfig.from_name('digits'),
                                     TrainConfig(workers=workers), 4, '/')
    if fits: return check()
    fitting = max(0, int(batches - 2)//2)
    with pytest.raises(OSError, match=f'--workers {fitting} fits; .*--shm-size'): check()


@pytest.mark.skipif(sys.platform != 'linux' or os.geteuid() != 0, reason='mounts a file system')
def test_a_small_shared_memory(tmp_path):
    size = ['-o', f'size={int(3.5*batch_bytes())}']
    mounted = subprocess.run(['mount', '-t', 'tmpfs', *size, 'none', tmp_path], capture_output=True)
    if mounted.returncode: pytest.skip('this machine lets nobody mount')
    try:
        with pytest.raises(OSError, match='--workers 0 fits; .*--shm-size'):
            check_shared_memory(Pix2SeqConfig.from_name('digits'), TrainConfig(workers=1), 4,
                                str(tmp_path))
    finally: subprocess.run(['umount', tmp_path], check=True)


EVALUATE = '''import multiprocessing, sys, time
from pix2seq.commands import main
from pix2seq.digits import DigitScenes
from pix2seq.evaluation import evaluate
from pix2seq.pretrained import load_model
from pix2seq import evaluation
real = evaluation.detect
def detect(*args, **options):
    print("reading", flush=True)
    return real(*args, **options)
evaluation.detect = detect
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    if sys.argv[2] == "command": sys.exit(main("eval --limit 20000 --workers 2".split()))
    evaluate(load_model("digits"), DigitScenes("val", 20000), workers=2)
'''
LONG = pytest.mark.attack


@POSIX
@pytest.mark.parametrize('method, way, number', [
    ('fork', 'command', signal.SIGINT), *(pytest.param(*case, marks=LONG) for case in [
        ('fork', 'command', signal.SIGTERM), ('spawn', 'command', signal.SIGINT),
        ('spawn', 'function', signal.SIGTERM), ('forkserver', 'command', signal.SIGTERM),
        ('forkserver', 'function', signal.SIGINT)])])
def test_a_signal_while_a_command_evaluates(tmp_path, method, way, number):
    "The whole group gets it; within seconds nobody of it is left, and no worker complains."
    script = tmp_path/'evaluate.py'
    script.write_text(EVALUATE)
    run = subprocess.Popen([sys.executable, script, method, way], env=ENV, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(2): assert run.stdout.readline() == 'reading\n', run.stderr.read()
    workers = psutil.Process(run.pid).children(recursive=True)
    assert len(workers) >= 2
    asked = time.monotonic()
    os.killpg(run.pid, number)
    _, said = run.communicate(timeout=60)
    assert time.monotonic() - asked < 20
    assert run.returncode == (130 if (way, number) == ('command', signal.SIGINT) else -number), said
    if way == 'command': assert 'Traceback' not in said, said
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive


@POSIX
def test_no_thread_of_a_worker_takes_the_signal():
    "Also where nobody holds signals back while workers start, and another process sends it."
    loader = DataLoader(range(100), batch_size=10, prefetch_factor=1, **worker_options(1))
    batches = iter(loader)
    next(batches)
    worker, = batches._workers
    subprocess.run(['kill', '-TERM', str(worker.pid)], check=True)
    time.sleep(.5)
    assert worker.is_alive() and len(list(batches)) == 9
