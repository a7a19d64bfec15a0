"Runs in processes of their own: killed and begun again, shared by two processes, asked to stop. PIX2SEQ_KILLS=20 for a long kill test."
import json, os, random, signal, subprocess, sys, time
from pathlib import Path

import torch
from safetensors.torch import load_file

from pix2seq.digits import DigitScenes
from pix2seq.evaluation import evaluate
from pix2seq.model import Pix2Seq
from pix2seq.training import read_metrics

KILLS = int(os.environ.get('PIX2SEQ_KILLS', 3))
TINY = ('encoder_dim=32 encoder_mlp_dim=64 encoder_heads=2 decoder_layers=1 decoder_dim=32 decoder_mlp_dim=64 decoder_heads=2 '
        'backbone=vit patch_size=16 dropout={dropout} drop_path={dropout}')
ENV = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent.parent)}
STEPS = 40*KILLS


def train(out:Path, *options:str, launch:tuple[str,...]=(), dropout:float=0.1, **popen) -> subprocess.Popen:
    words = ['-m', 'pix2seq.recipes', '--out', out, '--model', TINY.format(dropout=dropout), '--steps', STEPS, '--batch_size', 4, '--warmup_steps', 5,
             '--log_every', 1, '--eval_every', 0, '--eval_images', 10, *options]
    return subprocess.Popen([sys.executable, *launch, *map(str, words)], env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **popen)


def finish(process:subprocess.Popen, status:int=0) -> str:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == status, said
    return said


def last_step(out:Path) -> int:
    path = out/'metrics.jsonl'
    return max((row['step'] for row in read_metrics(path)), default=0) if path.exists() else 0


def weights(out:Path) -> dict: return load_file(out/'checkpoint'/'model.safetensors')


def test_killed_at_any_moment(tmp_path):
    "SIGKILL at random moments, saving included (every update saves), and one SIGTERM; the number of workers changes on the way."
    rng = random.Random(0)
    finish(train(tmp_path/'whole', '--save_every', '1000', '--workers', '2'))
    for kill in range(KILLS + 1):
        run, begun = train(tmp_path/'killed', '--save_every', '1', '--workers', str(kill % 3), start_new_session=True), last_step(tmp_path/'killed')
        aim = begun + rng.randrange(1, STEPS//(KILLS + 1))
        while last_step(tmp_path/'killed') < aim and run.poll() is None: time.sleep(0.005)
        assert run.poll() is None, run.communicate()
        time.sleep(rng.random()*0.05)
        if kill == 0:
            run.send_signal(signal.SIGTERM)
            assert 'the same command goes on' in finish(run, 128 + signal.SIGTERM)
        else:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
    finish(train(tmp_path/'killed', '--save_every', '1', '--workers', '2'))
    whole, killed = weights(tmp_path/'whole'), weights(tmp_path/'killed')
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    losses = [[(row['step'], row['loss']) for row in read_metrics(tmp_path/name/'metrics.jsonl') if 'loss' in row] for name in ('whole', 'killed')]
    assert losses[0] == losses[1] and [step for step, _ in losses[1]] == list(range(1, STEPS + 1))


def test_two_processes_are_one(tmp_path):
    "Half of the batch on each of two processes, or in each of two rounds, gives the losses of one process."
    runs = {'one': train(tmp_path/'one', dropout=0.), 'rounds': train(tmp_path/'rounds', '--accumulate', '2', dropout=0.)}
    for run in runs.values(): finish(run)
    finish(train(tmp_path/'two', launch=('-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', '29611'), dropout=0.))
    one, rounds, two = ([row['loss'] for row in read_metrics(tmp_path/name/'metrics.jsonl') if 'loss' in row] for name in ('one', 'rounds', 'two'))
    assert len(one) == STEPS
    torch.testing.assert_close(torch.tensor(two), torch.tensor(one), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(rounds), torch.tensor(one), rtol=1e-4, atol=1e-4)


def test_evaluation_is_shared(tmp_path):
    "Uneven shares of the images on two processes: the figures of one, to the last digit."
    script = tmp_path/'share.py'
    script.write_text('import json\nfrom accelerate import Accelerator\nfrom pix2seq.digits import DigitScenes\nfrom pix2seq.evaluation import coco_figures, detect_sharded\n'
                      'from pix2seq.model import Pix2Seq\nprocesses = Accelerator(cpu=True)\n'
                      'found = detect_sharded(Pix2Seq.from_pretrained("digits"), DigitScenes("val"), processes, 47, batch_size=10)\n'
                      'if processes.is_main_process: print("FIGURES", len(found[0]), json.dumps(coco_figures(*found)))\n')
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2', '--master_port', '29612', script]
    said = subprocess.run(command, env=ENV, text=True, capture_output=True, timeout=600)
    assert said.returncode == 0, said.stderr
    count, figures = next(line for line in said.stdout.splitlines() if line.startswith('FIGURES')).split(' ', 2)[1:]
    assert int(count) == 47
    torch.set_num_threads(1)
    assert json.loads(figures) == evaluate(Pix2Seq.from_pretrained('digits'), DigitScenes('val'), 47, batch_size=10)
