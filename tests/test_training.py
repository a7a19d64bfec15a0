"""Runs in processes of their own: killed, resumed, shared.

The long form kills 60 runs: `pytest -m attack -s tests/test_training.py`."""
import collections
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file

from pix2seq.commands import main
from pix2seq.digits import DigitScenes
from pix2seq.evaluation import evaluate
from pix2seq.model import Pix2Seq
from pix2seq.watching import read_metrics

KILLS, STEPS = 3, 120
TINY = dict(encoder_dim=32, encoder_mlp_dim=64, encoder_heads=2, decoder_layers=1, decoder_dim=32,
            decoder_mlp_dim=64, decoder_heads=2, backbone='vit', patch_size=16)
ENV = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent.parent)}
SHARE = """import json
from accelerate import Accelerator
from pix2seq.digits import DigitScenes
from pix2seq.average_precision import coco_figures
from pix2seq.evaluation import detect_sharded
from pix2seq.model import Pix2Seq

processes = Accelerator(cpu=True)
model = Pix2Seq.from_pretrained("digits")
found = detect_sharded(model, DigitScenes("val"), processes, 47, batch_size=10)
if processes.is_main_process: print("FIGURES", len(found[0]), json.dumps(coco_figures(*found)))
"""


def words_of(
    out:Path, # run folder
    dropout:float=0.1, # 0 where shares of an update are compared
    **options, # of `TrainConfig`
) -> list[str]:
    "The words behind `python -m pix2seq.commands`."
    fields = TINY | dict(dropout=dropout, drop_path=dropout)
    options = dict(out=out, steps=STEPS, batch_size=4, warmup_steps=5, log_every=1, eval_every=0,
                   lessons=.02, eval_images=10) | options
    return ['train', *(f'--{name.replace("_", "-")}={value}' for name, value in options.items()),
            '--model', *(f'{name}={value}' for name, value in fields.items())]


def train(
    out:Path, # run folder
    launch:tuple[str,...]=(), # what starts the module, see `processes`
    alone:bool=False, # in a group of processes of its own
    **options, # see `words_of`
) -> subprocess.Popen:
    "Start a run in a process of its own."
    command = [sys.executable, *launch, '-m', 'pix2seq.commands', *words_of(out, **options)]
    return subprocess.Popen(command, env=ENV, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=alone)


def processes() -> tuple[str,...]: # of `python`
    "Two processes that find each other, at a free port."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = str(s.getsockname()[1])
    return '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', port


def finish(process:subprocess.Popen, status:int=0) -> str: # what it printed
    "Wait for a process to end as it should."
    said, _ = process.communicate(timeout=600)
    assert process.returncode == status, said
    return said


def last_step(out:Path) -> int:
    "The last update that a run has written down."
    path = out/'metrics.jsonl'
    return max((row['step'] for row in read_metrics(path)), default=0) if path.exists() else 0


def losses(out:Path) -> list[tuple[int,float]]:
    "What a run has written down."
    rows = read_metrics(out/'metrics.jsonl')
    return [(row['step'], row['loss']) for row in rows if 'loss' in row]


def weights(out:Path) -> dict: return load_file(out/'checkpoint'/'model.safetensors')


def check_same(one:Path, other:Path) -> None:
    "Two runs have the same weights and losses, to the last bit."
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a), other
    assert losses(one) == losses(other), other


def test_killed_at_any_moment(tmp_path):
    "SIGKILL at random moments, saving included (every update saves); one SIGTERM; other workers."
    rng, out = random.Random(0), tmp_path/'killed'
    finish(train(tmp_path/'whole', save_every=1000, workers=2))
    for kill in range(KILLS + 1):
        begun = last_step(out)
        run = train(out, save_every=1, workers=kill % 3, alone=True)
        aim = begun + rng.randrange(1, STEPS//(KILLS + 1))
        while last_step(out) < aim and run.poll() is None: time.sleep(0.005)
        assert run.poll() is None, run.communicate()
        time.sleep(rng.random()*0.05)
        if kill == 0:
            run.send_signal(signal.SIGTERM)
            assert 'the same command continues' in finish(run, 128 + signal.SIGTERM)
        else:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
    finish(train(out, save_every=1, workers=2))
    check_same(tmp_path/'whole', out)
    assert [step for step, _ in losses(out)] == list(range(1, STEPS + 1))


# The long form
POSIX = os.name == 'posix'
SERVER = multiprocessing.get_context('forkserver' if POSIX else None)


def run_command(method:str, words:list[str], log:Path) -> None:
    "The command as the leader of a process group; its loader's workers are started by a method."
    os.setsid()
    for stream in (1, 2): os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    multiprocessing.set_start_method(method, force=True)
    Figure.savefig = lambda *_, **options: None # drawing would take longer than training
    sys.exit(main(words))


class Forked:
    "A run in a process that has imported all, which saves seconds, with what `Popen` offers."
    def __init__(self, method:str, words:list[str], log:Path):
        self.process, self.log = SERVER.Process(target=run_command, args=(method, words, log)), log
        self.process.start()
        self.pid = self.process.pid
        while self.poll() is None and os.getpgid(self.pid) != self.pid: time.sleep(.01)

    def poll(self) -> int|None: return self.process.exitcode

    @property
    def returncode(self) -> int|None: return self.process.exitcode

    def communicate(self, timeout:float|None=None) -> tuple[str,None]:
        "What it printed, once it has ended."
        self.process.join(timeout)
        return self.log.read_text(), None


def way_of(seed:int) -> str:
    "How a run is started: by a shell, by torchrun, or forked, its workers by one of the methods."
    ways = {1: 'shell', 4: 'torchrun', 6: 'spawn' if seed < 20 else 'forkserver'}
    return ways.get(seed % 10, 'fork')


def begin(out:Path, way:str, **options) -> subprocess.Popen|Forked:
    "Start the command in a process group of its own, or go on with it."
    options = dict(steps=20, workers=1, batch_size=2, eval_images=2) | options
    if way == 'shell': return train(out, alone=True, **options)
    if way == 'torchrun': return train(out, processes(), alone=True, **options)
    return Forked(way, words_of(out, **options), out.with_suffix('.log'))


def break_off(number:signal.Signals, folder:Path, seed:int) -> tuple[str,int]:
    "Send a run's group a signal at a random moment: how it was started, and after which update."
    rng, way, out = random.Random(f'{number} {seed}'), way_of(seed), folder/f'{number.name}-{seed}'
    aim = rng.randrange(1, 12) if rng.random() < .8 else 0 # 0: while it starts
    run = begin(out, way, save_every=1 if number == signal.SIGKILL else 1000)
    while last_step(out) < aim and run.poll() is None: time.sleep(.005)
    time.sleep(rng.random()*(.05 if aim else .5 if isinstance(run, Forked) else 5))
    assert run.poll() is None, run.communicate()[0]
    os.killpg(run.pid, number)
    said, _ = run.communicate(timeout=100)
    assert run.returncode, said
    if aim and number == signal.SIGTERM: # it has saved the update that it was at
        saved = json.loads((out/'checkpoint/complete.json').read_text())['step']
        assert 'the same command continues' in said and saved == last_step(out) >= aim, said
        if way != 'torchrun': assert run.returncode == 143 and 'Traceback' not in said, said
    return way, aim


@pytest.mark.attack
@pytest.mark.skipif(not POSIX, reason='needs process groups')
def test_many_broken_runs(tmp_path):
    "30 signals of each kind to whole groups: every run ends bit-equal to one that was left alone."
    SERVER.set_forkserver_preload(['pix2seq.training', 'pix2seq.commands', 'pytest',
                                   'pycocotools.cocoeval'])
    begun, counts = time.monotonic(), collections.Counter()
    for way in ('fork', 'torchrun'): finish(begin(tmp_path/way, way, save_every=1000))
    for number in (signal.SIGTERM, signal.SIGKILL):
        with ThreadPoolExecutor(2) as pool: # while the next are broken off, one goes on
            broken = pool.map(partial(break_off, number, tmp_path), range(30))
            for seed, (way, aim) in enumerate(broken):
                out, whole = tmp_path/f'{number.name}-{seed}', 'fork' if way != 'torchrun' else way
                finish(begin(out, whole, save_every=1000))
                check_same(tmp_path/whole, out)
                counts.update((number.name, what) for what in (way, bool(aim)))
    print_broken(counts, time.monotonic() - begun)


def print_broken(counts:collections.Counter, seconds:float) -> None:
    "The table of the broken runs."
    ways = 'fork', 'spawn', 'forkserver', 'shell', 'torchrun'
    columns = 'signal', 'runs', *ways, 'while starting', 'after an update', 'bit-equal'
    rows = [columns, ['---'] + ['---:']*9]
    for name in ('SIGTERM', 'SIGKILL'):
        runs = counts[name, True] + counts[name, False]
        rows.append((name, runs, *(counts[name, what] for what in (*ways, False, True)), runs))
    for row in rows: print(f'| {" | ".join(map(str, row))} |')
    print(f'{seconds:.0f} s')


def test_two_processes_are_one(tmp_path):
    "Half of the batch on each of two processes, or in each of two rounds: the losses of one."
    short = partial(train, dropout=0., steps=40)
    for run in short(tmp_path/'one'), short(tmp_path/'rounds', accumulate=2): finish(run)
    finish(short(tmp_path/'two', launch=processes()))
    one, rounds, two = (torch.tensor([loss for _, loss in losses(tmp_path/name)])
                        for name in ('one', 'rounds', 'two'))
    assert len(one) == 40
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rounds, one, rtol=1e-4, atol=1e-4)


def test_evaluation_is_shared(tmp_path):
    "Uneven shares of the images on two processes: the figures of one, to the last digit."
    script = tmp_path/'share.py'
    script.write_text(SHARE)
    command = [sys.executable, *processes(), script]
    said = subprocess.run(command, env=ENV, text=True, capture_output=True, timeout=600)
    assert said.returncode == 0, said.stderr
    line = next(line for line in said.stdout.splitlines() if line.startswith('FIGURES'))
    _, count, figures = line.split(' ', 2)
    assert int(count) == 47
    torch.set_num_threads(1)
    model = Pix2Seq.from_pretrained('digits')
    assert json.loads(figures) == evaluate(model, DigitScenes('val'), 47, batch_size=10)
