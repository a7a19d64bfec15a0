"Run folders that were copied, torn, shared or filled up, and runs that are told to stop."
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

import pytest
import torch
from safetensors.torch import load_file

from pix2seq.train_config import TrainConfig
from pix2seq.training import (CellNaming, Metrics, Trainer, build, claim_folder, find_checkpoint,
                              make_accelerator, read_metrics, save_checkpoint, seal, train)

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
    "They are left out with a warning, and the run goes on to the same weights."
    config = copy_of(whole, tmp_path)
    path = tmp_path/'run/metrics.jsonl'
    good = read_metrics(path)
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([lines[0], '{"step": 2, "lo', 'null', '\0\0', *lines[1:]]) + '\n')
    with pytest.warns(UserWarning, match='line 2 is damaged and left out, and 2 more'):
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
    with pytest.warns(UserWarning, match='not as it was saved'): trainer = Trainer(config)
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
from pix2seq.training import claim_folder
lock = claim_folder(TrainConfig(out=sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
'''


def test_fresh_beside_a_live_run_is_refused(tmp_path, monkeypatch):
    "Its folder is not moved away under it; the sentence says who is in there."
    monkeypatch.setattr('pix2seq.training.lock_folder.__defaults__', (.2,))
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
