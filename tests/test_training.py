"Runs in processes of their own: killed, resumed, shared. PIX2SEQ_KILLS=20: a long kill test."
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from pix2seq.digits import DigitScenes
from pix2seq.evaluation import evaluate
from pix2seq.model import Pix2Seq
from pix2seq.training import read_metrics

KILLS = int(os.environ.get('PIX2SEQ_KILLS', 3))
STEPS = 40*KILLS
TINY = dict(encoder_dim=32, encoder_mlp_dim=64, encoder_heads=2, decoder_layers=1, decoder_dim=32,
            decoder_mlp_dim=64, decoder_heads=2, backbone='vit', patch_size=16)
ENV = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent.parent)}
SHARE = """import json
from accelerate import Accelerator
from pix2seq.digits import DigitScenes
from pix2seq.evaluation import coco_figures, detect_sharded
from pix2seq.model import Pix2Seq

processes = Accelerator(cpu=True)
model = Pix2Seq.from_pretrained("digits")
found = detect_sharded(model, DigitScenes("val"), processes, 47, batch_size=10)
if processes.is_main_process: print("FIGURES", len(found[0]), json.dumps(coco_figures(*found)))
"""


def train(
    out:Path, # run folder
    launch:tuple[str,...]=(), # what starts the module, see `processes`
    dropout:float=0.1, # 0 where shares of an update are compared
    alone:bool=False, # in a group of processes of its own
    **options, # of `TrainConfig`
) -> subprocess.Popen:
    "Start a run in a process of its own."
    fields = TINY | dict(dropout=dropout, drop_path=dropout)
    options = dict(out=out, steps=STEPS, batch_size=4, warmup_steps=5, log_every=1, eval_every=0,
                   eval_images=10) | options
    words = [f'--{name.replace("_", "-")}={value}' for name, value in options.items()]
    command = [sys.executable, *launch, '-m', 'pix2seq.commands', 'train', *words,
               '--model', *(f'{name}={value}' for name, value in fields.items())]
    return subprocess.Popen(command, env=ENV, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=alone)


def processes(port:int) -> tuple[str,...]: # of `python`
    "Two processes that find each other."
    return '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', str(port)


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
            assert 'the same command goes on' in finish(run, 128 + signal.SIGTERM)
        else:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
    finish(train(out, save_every=1, workers=2))
    whole, killed = weights(tmp_path/'whole'), weights(out)
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert losses(tmp_path/'whole') == losses(out)
    assert [step for step, _ in losses(out)] == list(range(1, STEPS + 1))


def test_two_processes_are_one(tmp_path):
    "Half of the batch on each of two processes, or in each of two rounds: the losses of one."
    runs = [train(tmp_path/'one', dropout=0.), train(tmp_path/'rounds', accumulate=2, dropout=0.)]
    for run in runs: finish(run)
    finish(train(tmp_path/'two', launch=processes(29611), dropout=0.))
    one, rounds, two = (torch.tensor([loss for _, loss in losses(tmp_path/name)])
                        for name in ('one', 'rounds', 'two'))
    assert len(one) == STEPS
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rounds, one, rtol=1e-4, atol=1e-4)


def test_evaluation_is_shared(tmp_path):
    "Uneven shares of the images on two processes: the figures of one, to the last digit."
    script = tmp_path/'share.py'
    script.write_text(SHARE)
    command = [sys.executable, *processes(29612), script]
    said = subprocess.run(command, env=ENV, text=True, capture_output=True, timeout=600)
    assert said.returncode == 0, said.stderr
    line = next(line for line in said.stdout.splitlines() if line.startswith('FIGURES'))
    _, count, figures = line.split(' ', 2)
    assert int(count) == 47
    torch.set_num_threads(1)
    model = Pix2Seq.from_pretrained('digits')
    assert json.loads(figures) == evaluate(model, DigitScenes('val'), 47, batch_size=10)
