"""Run folders that were copied, torn, shared or filled up, and runs that are told to stop.
`pytest -m attack` runs what takes long."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from pix2seq import pretraining
from pix2seq.checkpoint import find_checkpoint, save_checkpoint, seal
from pix2seq.command_line import run
from pix2seq.commands import pix2seq_eval
from pix2seq.cost import dry_run
from pix2seq.machine import check_shared_memory, make_accelerator, update_memory
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.run_folder import claim_folder
from pix2seq.saved_weights import bundled_weights
from pix2seq.train_config import TrainConfig, check_config, flag
from pix2seq.training import Trainer, train
from pix2seq.watching import Metrics, read_metrics

TINY = dict(encoder_dim=32, encoder_mlp_dim=64, encoder_heads=2, decoder_layers=1, decoder_dim=32,
            decoder_mlp_dim=64, decoder_heads=2, backbone='vit', patch_size=16)
SHORT = dict(steps=4, batch_size=2, warmup_steps=1, eval_every=0, eval_images=2, save_every=2,
             log_every=1, workers=0, model=TINY)
ENV = os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(Path(__file__).parent.parent)}


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> Path:
    "A run folder that is as it should be; take a copy."
    out = tmp_path_factory.mktemp('whole')/'run'
    train(TrainConfig(out=str(out), **SHORT))
    return out


def copy_of(whole:Path, place:Path) -> TrainConfig:
    "The run again, in a copy of its folder."
    shutil.copytree(whole, place/'run')
    return TrainConfig(out=str(place/'run'), **SHORT)


def weights(out:Path|str) -> dict: return load_file(Path(out)/'checkpoint'/'model.safetensors')


def same(a:dict, b:dict) -> bool: return all(torch.equal(a[name], b[name]) for name in a)


def back(out:Path) -> None:
    "Go back to the checkpoint before the last."
    shutil.rmtree(out/'checkpoint')
    assert find_checkpoint(out).name == 'checkpoint-0000002'


class Model:
    "What `save_checkpoint` needs of a model."
    def save_pretrained(self, folder:Path) -> None:
        folder.mkdir()
        for name in ('config.json', 'model.safetensors'): (folder/name).write_text('{}')


def test_only_numbered_checkpoints_are_ours(tmp_path):
    "Copies with other names stay, numbers of any length are ordered by number."
    copies = ('checkpoint-before-lr-change', 'checkpoint-best', 'checkpoint-5.old')
    for name in copies: (tmp_path/name).mkdir()
    for step in (9_999_998, 9_999_999, 10_000_000, 10_000_001):
        save_checkpoint(tmp_path, Model(), dict(step=step), keep=3)
    left = sorted(path.name for path in tmp_path.iterdir())
    numbered = ['checkpoint-10000000', 'checkpoint-9999999']
    assert left == sorted(['checkpoint', *numbered, *copies])
    shutil.rmtree(tmp_path/'checkpoint')
    assert find_checkpoint(tmp_path).name == 'checkpoint-10000000'


@pytest.mark.parametrize('file', ['config.json', 'data.json'])
@pytest.mark.parametrize('content', ['', 'null', '[1]', '{"steps"'])
def test_a_torn_record_is_read_from_the_checkpoint(whole, tmp_path, file, content):
    config = copy_of(whole, tmp_path)
    torn = tmp_path/'run'/file
    before = json.loads(torn.read_text())
    if file == 'config.json': before |= dict(out=config.out)
    torn.write_text(content)
    with pytest.warns(UserWarning, match=f'{file} is damaged'): trainer = Trainer(config)
    assert trainer.step == 4 and json.loads(torn.read_text()) == before
    trainer.lock.release(force=True)


def test_a_torn_record_without_a_checkpoint(whole, tmp_path):
    "One sentence names the file; --fresh moves the folder aside."
    config = copy_of(whole, tmp_path)
    (tmp_path/'run/config.json').write_text('')
    for folder in (tmp_path/'run').glob('checkpoint*'): shutil.rmtree(folder)
    with pytest.raises(ValueError, match='config.json is damaged.*--fresh'): Trainer(config)
    trainer = Trainer(replace(config, fresh=True))
    assert trainer.step == 0 and (tmp_path/'run.1/metrics.jsonl').is_file()
    trainer.lock.release(force=True)


def test_records_are_not_written_at_every_start(whole, tmp_path):
    config = TrainConfig(out=str(tmp_path/'run'))
    claim_folder(config).release(force=True)
    files = [tmp_path/'run'/name for name in ('config.json', 'data.json')]
    before = [file.stat().st_ino for file in files]
    claim_folder(config).release(force=True)
    assert [file.stat().st_ino for file in files] == before


def test_a_start_that_was_killed_is_begun_again(tmp_path):
    "The lock was there, the record was not yet."
    out = tmp_path/'run'
    out.mkdir()
    for name in ('lock', 'config.json.new'): (out/name).write_text('')
    claim_folder(TrainConfig(out=str(out))).release(force=True)
    assert (out/'config.json').is_file()


def test_bad_lines_of_metrics(whole, tmp_path):
    "They are skipped with a warning, and the run continues to the same weights."
    config = copy_of(whole, tmp_path)
    path = tmp_path/'run/metrics.jsonl'
    good = read_metrics(path)
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([lines[0], '{"step": 2, "lo', 'null', '\0\0', *lines[1:]]) + '\n')
    with pytest.warns(UserWarning, match='line 2 is damaged and skipped, and 2 more'):
        assert read_metrics(path) == good
    back(tmp_path/'run')
    with pytest.warns(UserWarning, match='damaged'): train(config)
    assert same(weights(whole), weights(config.out))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert [row['step'] for row in read_metrics(path)] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize('content', ['', 'null', '[]', '{"step": 4}', '{"step": "4", "sha256": {}}',
                                     '{"step": 4, "sha256": {}}'])
def test_an_odd_seal(whole, tmp_path, content):
    "The checkpoint before is used, and the next save does not stumble over the odd one."
    config = copy_of(whole, tmp_path)
    (tmp_path/'run/checkpoint/complete.json').write_text(content)
    with pytest.warns(UserWarning, match='damaged or incomplete'): trainer = Trainer(config)
    assert trainer.step == 2
    trainer.run()
    assert same(weights(whole), weights(config.out))
    assert find_checkpoint(tmp_path/'run').name == 'checkpoint'


def test_a_checkpoint_of_another_run_is_refused(whole, tmp_path):
    config = copy_of(whole, tmp_path)
    other = replace(config, out=str(tmp_path/'other'), seed=1)
    train(other)
    shutil.rmtree(tmp_path/'run/checkpoint')
    shutil.copytree(tmp_path/'other/checkpoint', tmp_path/'run/checkpoint')
    with pytest.raises(ValueError, match='of another run .seed was 1 and now is 0'): Trainer(config)


def test_torn_samples_do_not_end_a_run(whole, tmp_path):
    config = copy_of(whole, tmp_path)
    back(tmp_path/'run')
    (tmp_path/'run/samples.json').write_text('{"4')
    with pytest.warns(UserWarning, match='samples.json is damaged'): train(config)
    assert list(json.loads((tmp_path/'run/samples.json').read_text())) == ['4']


class FullFile:
    "A file on a full disk: half of what is written gets there."
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *error): self.file.close()
    def write(self, text):
        self.file.write(text[:len(text)//2])
        raise OSError(28, 'No space left on device')


def test_a_full_disk_in_the_metrics(tmp_path, monkeypatch):
    "The lines wait for room; nothing is torn."
    metrics, real = Metrics(tmp_path/'metrics.jsonl'), Path.open
    metrics.write(step=1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'open', lambda *args: FullFile(real(*args)))
        for step in (2, 3): metrics.write(step=step)
    assert read_metrics(metrics.path) == [dict(step=1)]
    metrics.write(step=4)
    assert [row['step'] for row in read_metrics(metrics.path)] == [1, 2, 3, 4]


def test_a_seal_needs_three_files(tmp_path):
    Model().save_pretrained(tmp_path/'checkpoint')
    with pytest.raises(OSError, match='training.pt is missing'): seal(tmp_path/'checkpoint', 1)
    assert not (tmp_path/'checkpoint/complete.json').exists()


HOLD = '''import sys
from pix2seq.train_config import TrainConfig
from pix2seq.run_folder import claim_folder
from pix2seq.saved_weights import bundled_weights
lock = claim_folder(TrainConfig(out=sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
'''


def test_fresh_beside_a_live_run_is_refused(tmp_path, monkeypatch):
    "Its folder is not moved away under it; the sentence says who is in there."
    monkeypatch.setattr('pix2seq.run_folder.lock_folder.__defaults__', (.2,))
    out = tmp_path/'run'
    live = subprocess.Popen([sys.executable, '-c', HOLD, out], env=ENV, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert live.stdout.readline() == 'held\n'
    config = TrainConfig(out=str(out), lr=1e-4, fresh=True)
    with pytest.raises(OSError, match=f'wait for process {live.pid} on .'): claim_folder(config)
    assert not (tmp_path/'run.1').exists()
    live.communicate()
    lock = claim_folder(config)
    assert (tmp_path/'run.1/config.json').is_file()
    lock.release(force=True)


START = '''import json, multiprocessing, sys
from pix2seq.train_config import TrainConfig
from pix2seq.training import train
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    train(TrainConfig(**json.loads(sys.argv[2])))
'''


def start(tmp_path:Path, method:str='fork', launch:tuple=(), **options) -> subprocess.Popen:
    "A run as the leader of a group of processes of its own."
    script, options = tmp_path/'start.py', SHORT | dict(out=str(tmp_path/'run')) | options
    script.write_text(START)
    command = [sys.executable, *launch, script, method, json.dumps(options)]
    return subprocess.Popen(command, env=ENV, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, start_new_session=True)


def torchrun(count:int=2) -> tuple:
    "Processes that find each other at a free port."
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    return ('-m', 'torch.distributed.run', '--nproc_per_node', str(count), '--master_addr',
            '127.0.0.1', '--master_port', str(port))


def wait_for(out:Path, run:subprocess.Popen, step:int=1) -> None:
    "Until the run has written down this update."
    def reached():
        path = out/'metrics.jsonl'
        return path.is_file() and any(row['step'] >= step for row in read_metrics(path))
    while run.poll() is None and not reached(): time.sleep(.02)
    assert run.poll() is None, run.communicate()[0]


LONG = dict(steps=3000, save_every=3000, batch_size=4)


@pytest.mark.attack
@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_a_signal_to_a_group_of_other_kinds(tmp_path, method):
    "Workers of the loader get it, too, also while they start; the run saves all the same."
    run = start(tmp_path, method, workers=1, **LONG)
    wait_for(tmp_path/'run', run)
    number = signal.SIGTERM if method == 'spawn' else signal.SIGINT
    os.killpg(run.pid, number)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 128 + number and 'continues from there' in said, said
    assert 'Traceback' not in said and find_checkpoint(tmp_path/'run').name == 'checkpoint'


def test_a_signal_to_the_group_changes_no_weights(tmp_path):
    options = dict(workers=2, steps=40)
    run = start(tmp_path, **options)
    wait_for(tmp_path/'run', run, 3)
    os.killpg(run.pid, signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 143 and 'continues from there' in said, said
    options['workers'] = 0
    for out in ('run', 'whole'): train(TrainConfig(**SHORT | options | dict(out=str(tmp_path/out))))
    assert same(weights(tmp_path/'whole'), weights(tmp_path/'run'))


def test_a_signal_while_it_evaluates(tmp_path):
    "An answer within seconds, and a checkpoint of this very update."
    run = start(tmp_path, workers=1, eval_every=3, eval_images=50_000, **LONG)
    wait_for(tmp_path/'run', run, 3)
    time.sleep(1.5)
    asked = time.monotonic()
    os.killpg(run.pid, signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 143 and 'stopped after update 3;' in said, said
    assert time.monotonic() - asked < 10
    assert find_checkpoint(tmp_path/'run') is not None


@pytest.mark.parametrize('count, evaluating', [
    (3, False), pytest.param(2, True, marks=pytest.mark.attack)])
def test_a_signal_through_torchrun(tmp_path, count, evaluating):
    "Processes start at once in a new folder; the signal reaches them and their workers twice."
    options = dict(eval_every=3, eval_images=50_000) if evaluating else {}
    options = LONG | dict(batch_size=2*count) | options
    run = start(tmp_path, launch=torchrun(count), workers=1, **options)
    wait_for(tmp_path/'run', run, 3)
    if evaluating: time.sleep(1.5)
    asked = time.monotonic()
    os.killpg(run.pid, signal.SIGTERM)
    said, _ = run.communicate(timeout=60)
    assert 'continues from there' in said, said
    assert time.monotonic() - asked < 25 and find_checkpoint(tmp_path/'run') is not None


def test_processes_must_see_one_folder(tmp_path):
    "Each with a folder of its own: refused, where weights would part without a word."
    script = tmp_path/'apart.py'
    script.write_text(START.replace('    train(', '    import os, pix2seq.run_folder as t\n'
                                    '    os.chdir(os.environ["RANK"])\n'
                                    '    t._sees.__defaults__ = (.1,)\n    train('))
    for rank in '01': (tmp_path/rank).mkdir()
    command = [sys.executable, *torchrun(), script, 'fork', json.dumps(SHORT | dict(out='run'))]
    run = subprocess.run(command, env=ENV, text=True, capture_output=True, cwd=tmp_path, timeout=60)
    assert '1 of 2 processes do not see the first one' in run.stderr, run.stderr
    assert run.returncode and not list(tmp_path.glob('*/run/checkpoint'))


def test_embedded_data_have_names(tmp_path, monkeypatch, capsys):
    "A run and an evaluation find the scenes by name; a folder of that name comes first."
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(data='scenes', out='run', lessons=.25, lesson_window=.25, **SHORT)
    trainer = Trainer(config)
    assert trainer.run() and trainer.config.preset == 'small'
    assert trainer.model.config.class_names == trainer.train_set.class_names
    assert 'scenes: 1,000,000 training scenes, 2 validation scenes, 80' in capsys.readouterr().out
    assert run(pix2seq_eval, 'eval --data scenes --weights run --limit 2'.split()[1:]) == 0
    assert '2 images' in capsys.readouterr().out
    Path('scenes').mkdir()
    assert run(pix2seq_eval, 'eval --data scenes --weights run --limit 2'.split()[1:]) == 1
    assert 'scenes' in capsys.readouterr().err


@pytest.mark.parametrize('update', range(1, 5))
def test_a_signal_in_a_lesson(tmp_path, monkeypatch, capsys, update):
    "The run stops within the lesson; the next one continues it and ends with the same weights."
    runs = [TrainConfig(out=str(tmp_path/name), **SHORT, lessons=.5) for name in ('whole', 'asked')]
    train(runs[0])
    step, calls = pretraining.train_step, []
    def asked(*args):
        calls.append(1)
        if len(calls) == update: signal.raise_signal(signal.SIGTERM)
        return step(*args)
    monkeypatch.setattr(pretraining, 'train_step', asked)
    with pytest.raises(SystemExit, match='143'): train(runs[1])
    assert len(calls) == update
    lesson = ('naming', 'windows')[update > 1]                 # after the second, the other begins
    if update < 4: assert f'of the lesson {lesson!r}' in capsys.readouterr().out
    train(runs[1])
    assert len(calls) == 4                                      # none was made twice
    assert same(weights(runs[0].out), weights(runs[1].out))


def test_counts_of_the_optimizer_stay_on_the_cpu(whole, tmp_path, monkeypatch):
    "Where Accelerate moves them with the rest, a GPU would be waited for once for each weight."
    prepare = Accelerator.prepare
    def move(self, model, optimizer, loader):
        model, optimizer, loader = prepare(self, model, optimizer, loader)
        for state in optimizer.state.values(): state['step'] = OnGPU(state['step'])
        return model, optimizer, loader
    class OnGPU:
        def __init__(self, value): self.value = value
        def cpu(self): return self.value
    monkeypatch.setattr(Accelerator, 'prepare', move)
    trainer = Trainer(copy_of(whole, tmp_path))
    counts = [state['step'] for state in trainer.optimizer.state.values()]
    assert counts and all(count == 4 for count in counts)
    trainer.lock.release(force=True)


def test_no_variable_scales_gradients(monkeypatch):
    monkeypatch.setenv('ACCELERATE_GRADIENT_ACCUMULATION_STEPS', '4')
    weight = torch.ones(1, requires_grad=True)
    make_accelerator(TrainConfig(device='cpu')).backward(weight.sum())
    assert weight.grad.item() == 1


def test_what_cannot_fit_is_refused(tmp_path):
    "At once, before anything is written, by the command and by its --dry-run."
    out = tmp_path/'run'
    big = TrainConfig(out=str(out), **SHORT | dict(batch_size=10**6))
    for start_run in (Trainer, dry_run):
        with pytest.raises(MemoryError, match='lower batch_size .* or raise accumulate'):
            start_run(big)
    assert not out.exists()


def test_the_estimate_is_what_is_kept(tmp_path):
    "Counted without computing; compared with what two updates really keep."
    for model in (TINY, {}, dict(dropout=.1, drop_path=.1)):
        config = TrainConfig(out=str(tmp_path/'run'), **SHORT | dict(batch_size=8, model=model))
        cost, shape = dry_run(config), Pix2SeqConfig.from_name('digits', **model)
        state, activations = update_memory(shape, config, 8)
        assert state == cost['state_bytes']
        assert .5 < activations/cost['activation_bytes'] < 1.05


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: type('', (), dict(available=10**6)))
    monkeypatch.setattr(psutil, 'swap_memory', lambda: type('', (), dict(free=0)))
    with pytest.raises(MemoryError, match='but 0.0 GiB are free'):
        Trainer(TrainConfig(out=str(tmp_path/'run'), **SHORT))


def test_memory_that_runs_out(tmp_path, monkeypatch):
    "PyTorch's own words become a sentence."
    monkeypatch.setattr('pix2seq.training.check_memory', lambda *args: None)
    def fail(*args): torch.empty(2**50)
    monkeypatch.setattr('pix2seq.training.train_step', fail)
    with pytest.raises(MemoryError, match='lower batch_size'):
        train(TrainConfig(out=str(tmp_path/'run'), **SHORT))


def test_what_is_missing_is_noticed_before_training(tmp_path, monkeypatch):
    def start_run(**options): Trainer(TrainConfig(out=str(tmp_path/'run'), **SHORT | options))
    with pytest.raises(ValueError, match="'fp16' needs a GPU"):
        start_run(mixed_precision='fp16', device='cpu')
    with pytest.raises(ValueError, match="trackers must be 'tensorboard'"): start_run(trackers='x')
    monkeypatch.setattr('pix2seq.machine.find_spec', lambda name: None)
    for option in (dict(coco_backend='faster_coco_eval'), dict(trackers='wandb')):
        with pytest.raises(ImportError, match='is not installed: pip install'): start_run(**option)
    assert not (tmp_path/'run').exists()


def test_shared_memory_for_less_than_a_batch(monkeypatch):
    "Refused, where the loader's workers would hang."
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: type('', (), dict(free=2**16)))
    with pytest.raises(OSError, match='--workers 0 .*--shm-size'):
        check_shared_memory(Pix2SeqConfig.from_name('digits'), TrainConfig(workers=1), 4)
    check_shared_memory(Pix2SeqConfig.from_name('digits'), TrainConfig(workers=0), 4)


@pytest.mark.parametrize('trouble', ['time.sleep(1000)', 'os.kill(os.getpid(), 9)'])
def test_workers_that_hang_or_die(tmp_path, monkeypatch, trouble):
    "A time limit, and one sentence; the process that trained can end."
    def read(self, key): exec(trouble)
    monkeypatch.setattr('pix2seq.workers.BATCH_SECONDS', 1)
    monkeypatch.setattr('pix2seq.batches.SequenceDataset.__getitem__', read)
    with pytest.raises(OSError, match='--workers 0 .*--shm-size'):
        train(TrainConfig(out=str(tmp_path/'run'), **SHORT | dict(workers=1)))


@pytest.mark.parametrize('option', ['lr', 'weight_decay', 'class_weight', 'clip_norm', 'ema'])
@pytest.mark.parametrize('value', [1e30, float('inf'), float('nan')])
def test_numbers_that_are_none(option, value):
    with pytest.raises(ValueError, match=flag(option)): check_config(TrainConfig(**{option: value}))


@pytest.mark.parametrize('lr', [1e29, 1e12])
def test_a_rate_that_is_too_high(tmp_path, lr):
    "A run of one update may still end; then a sentence says where numbers end."
    options = SHORT | dict(warmup_steps=0, lr=lr)
    try: train(TrainConfig(out=str(tmp_path/'one'), **options | dict(steps=1)))
    except FloatingPointError: pass
    with pytest.raises(FloatingPointError): train(TrainConfig(out=str(tmp_path/'run'), **options))


# ---- runs that decide something by themselves

def planned(monkeypatch, tmp_path:Path, name:str, **options) -> TrainConfig:
    "A run for a time, on a machine whose speed is invented: 12 updates fit, then 24."
    from pix2seq import plan
    monkeypatch.setattr(plan, 'time_updates', lambda trainer: 52.5)
    monkeypatch.setattr(plan, 'time_reading', lambda trainer: .1)
    options = SHORT | dict(steps=3000, time='11.5m', eval_every=4, lessons=0.) | options
    return TrainConfig(out=str(tmp_path/name), **options)


@pytest.mark.parametrize('stop', (2, 5, 6, 9))
def test_a_run_for_a_time_keeps_its_plan(tmp_path, monkeypatch, stop):
    "Stopped before, at and after the first look: the same updates, the same weights."
    whole, cut = (planned(monkeypatch, tmp_path, name) for name in ('whole', 'cut'))
    train(whole)
    update = Trainer.update
    def asked(self, batches):
        if self.step == stop: signal.raise_signal(signal.SIGTERM)
        return update(self, batches)
    monkeypatch.setattr(Trainer, 'update', asked)
    with pytest.raises(SystemExit, match='143'): train(cut)
    monkeypatch.setattr(Trainer, 'update', update)
    trainer = Trainer(cut)
    trainer.run()
    plans = [json.loads((tmp_path/name/'plan.json').read_text()) for name in ('whole', 'cut')]
    assert plans[0]['steps'] == plans[1]['steps'] == [[0, 12], [5, 24], [12, 24], [21, 24]]
    assert trainer.step == 24
    assert same(weights(whole.out), weights(cut.out))
    AP = [[(row['step'], row['AP']) for row in read_metrics(tmp_path/name/'metrics.jsonl')
           if 'AP' in row] for name in ('whole', 'cut')]
    assert AP[0] == AP[1] and [step for step, _ in AP[0]] == [4, 8, 12, 16, 20, 24]


def test_a_plan_that_shrank_may_grow_again(tmp_path, monkeypatch):
    "Also after the run was stopped in between: there are batches enough."
    config, update = planned(monkeypatch, tmp_path, 'run'), Trainer.update
    counts = iter((8, 24, 24))
    def corrected(plan, config, step, *args, **how): plan['steps'].append([step, next(counts)])
    monkeypatch.setattr('pix2seq.training.correct', corrected)
    def asked(self, batches):
        if self.step == 4: signal.raise_signal(signal.SIGTERM)
        return update(self, batches)
    with monkeypatch.context() as during:
        during.setattr(Trainer, 'update', asked)
        with pytest.raises(SystemExit, match='143'): train(config)
    trainer = Trainer(config)
    assert (trainer.step, trainer.config.steps) == (5, 8)
    trainer.run()
    assert trainer.step == 24 and trainer.plan['steps'] == [[0, 12], [5, 8], [6, 24], [21, 24]]


def test_a_damaged_plan_is_read_from_the_checkpoint(tmp_path, monkeypatch):
    config = planned(monkeypatch, tmp_path, 'run')
    train(config)
    (tmp_path/'run/plan.json').write_text('')
    with pytest.warns(UserWarning, match='plan.json is damaged'): trainer = Trainer(config)
    assert trainer.step == trainer.config.steps == 24


def test_too_little_time_leaves_nothing(tmp_path, monkeypatch):
    config = planned(monkeypatch, tmp_path, 'run', time='60s')
    with pytest.raises(ValueError, match='--time 60s is too short: an update takes 52.50 s'):
        Trainer(config)
    assert not (tmp_path/'run').exists()


def test_an_evaluation_that_a_stop_prevented_is_made_up_for(tmp_path):
    "Patience counts it: the run ends where it would have ended."
    options = SHORT | dict(steps=30, eval_every=2, patience=2)
    whole, cut = (TrainConfig(out=str(tmp_path/name), **options) for name in ('whole', 'cut'))
    train(whole)
    trainer = Trainer(cut)
    def killed(bar): raise KeyError
    trainer.glance = killed                      # after the checkpoint of update 2
    with pytest.raises(KeyError): trainer.run()
    again = Trainer(cut)
    again.run()
    plans = [json.loads((tmp_path/name/'plan.json').read_text()) for name in ('whole', 'cut')]
    ends = [plan['steps'] for plan in plans]
    assert ends[0] == ends[1] and again.step == ends[0][0][0] < 30
    assert same(weights(whole.out), weights(cut.out))
    with pytest.raises(ValueError, match='eval_every was 2 and now is 3'):
        Trainer(replace(cut, eval_every=3))


def test_a_frozen_backbone_stays_as_it_was(tmp_path):
    "Its weights and the statistics of its norms; the rest learns."
    config = TrainConfig(out=str(tmp_path/'run'), weights='digits', freeze_backbone=True,
                         **SHORT | dict(model=None, steps=2, lr=.1))
    train(config)
    before, after = load_file(bundled_weights()['digits']/'model.safetensors'), weights(config.out)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed and not any(name.startswith('encoder.backbone') for name in changed)
