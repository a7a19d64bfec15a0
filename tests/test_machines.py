"Limits of memory, other processes, GPUs and Windows, with stand-ins where this machine has none."
import io
import json
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch import nn

from pix2seq import checkpoint, files, machine, run_folder, training
from pix2seq.checkpoint import seal
from pix2seq.data import CocoDataset
from pix2seq.detector import Detector
from pix2seq.digits import DigitScenes, write_digits
from pix2seq.machine import check_memory, make_accelerator
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.recipes import RECIPES, from_recipe
from pix2seq.run_folder import claim_folder
from pix2seq.run_setup import build, with_objects
from pix2seq.train_config import TrainConfig
from pix2seq.training import Trainer
from pix2seq.update import make_loader, make_optimizer, set_rates

TINY = dict(encoder_dim=32, encoder_mlp_dim=64, encoder_heads=2, decoder_layers=1, decoder_dim=32,
            decoder_mlp_dim=64, decoder_heads=2, backbone='vit', patch_size=16)
SHORT = dict(steps=4, batch_size=2, warmup_steps=1, eval_every=0, eval_images=2, save_every=2,
             log_every=1, workers=0, model=TINY)


# Memory

@pytest.fixture
def refused(monkeypatch):
    "Is an update of a small model refused, and with which sentence?"
    def ask(device:str='cpu') -> str|None:
        shape, config = Pix2SeqConfig.from_name('digits', **TINY), TrainConfig(**SHORT)
        try: check_memory(shape, config, 1, torch.device(device))
        except MemoryError as e: return str(e)
    assert ask() is None
    return ask


def test_a_limit_of_the_address_space_counts(refused, monkeypatch):
    "`ulimit -v`: what the process has already is taken off."
    used = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: (used + 10**6, -1))
    assert 'but 0.0 GiB are free (cpu): lower batch_size' in refused()
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: (used + 2**40, -1))
    assert refused() is None


@pytest.mark.parametrize('file', ['memory.max', 'memory/memory.limit_in_bytes'])
def test_a_limit_of_the_container_counts(refused, monkeypatch, file):
    "Of either version of control groups; a container without a limit says `max`."
    def read(path, real=Path.read_text):
        if path.parts[:4] != ('/', 'sys', 'fs', 'cgroup'): return real(path)
        if path == Path('/sys/fs/cgroup')/file: return limit
        raise FileNotFoundError(path)
    monkeypatch.setattr(Path, 'read_text', read)
    limit = '1000000\n'
    assert 'but 0.0 GiB are free' in refused()
    limit = 'max\n'
    assert refused() is None


def test_the_memory_of_a_gpu_counts(refused, monkeypatch):
    "What earlier runs in this process left unused is free, too."
    cuda = dict(memory_reserved=2**10, memory_allocated=2**9, mem_get_info=(2**10, 2**36))
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert 'are free (cuda): lower batch_size' in refused('cuda')
    monkeypatch.setattr(torch.cuda, 'memory_reserved', lambda device: 2**35)
    assert refused('cuda') is None


# A detector in other processes

@pytest.fixture(scope='module')
def detector() -> Detector: return Detector.from_pretrained('digits')


IMAGES = [DigitScenes('val')[i]['image'] for i in range(3)]


def boxes(found:list[dict]) -> list: return [objects['boxes'].tolist() for objects in found]


def test_a_detector_can_be_sent_to_another_process(detector):
    "By `spawn`: the same objects, to the last digit."
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        found = pool.submit(detector, IMAGES).result(timeout=60)
    assert boxes(found) == boxes(detector(IMAGES))


def test_what_a_detector_takes_along(detector):
    how = dict(top_p=.9, max_objects=3)
    other = pickle.loads(pickle.dumps(Detector(detector.model, 7, torch.bfloat16, **how)))
    assert (other.batch_size, other.max_objects, other.options) == (7, 3, how)
    assert other.engine.dtype is torch.bfloat16 and other.class_names == detector.class_names


def of_child(work) -> str:
    "What a forked child finds; an empty string if it hangs for a minute."
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try: os.write(writing, json.dumps(work()).encode())
        finally: os._exit(0)
    os.close(writing)
    until = time.monotonic() + 60
    while time.monotonic() < until and not os.waitpid(child, os.WNOHANG)[0]: time.sleep(.02)
    try: os.kill(child, signal.SIGKILL)
    except ProcessLookupError: pass
    with open(reading) as answer: return answer.read()


@pytest.mark.parametrize('threads', [1, 2])
def test_a_fork_while_another_thread_reads(detector, threads):
    "The child reads on: its lock is open, its engine whole, its pool of threads not waited for."
    before, done = torch.get_num_threads(), threading.Event()
    torch.set_num_threads(threads)
    expected = boxes(detector(IMAGES))
    def read():
        while not done.is_set(): detector(IMAGES)
    thread = threading.Thread(target=read)
    thread.start()
    try:
        while not detector.turn.locked(): time.sleep(.001)
        found = of_child(lambda: boxes(detector(IMAGES)))
    finally:
        done.set()
        thread.join()
        torch.set_num_threads(before)
    assert found, 'the child hangs'
    for ours, theirs in zip(json.loads(found), expected, strict=True):
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=0, atol=1e-3)


def test_a_fork_of_a_detector_at_rest_keeps_its_engine(detector):
    "Which may be compiled; a detector that is gone does not matter."
    gone = Detector(detector.model, 1)
    del gone
    before, engine = torch.get_num_threads(), id(detector.engine)
    torch.set_num_threads(2)
    found = of_child(lambda: [id(detector.engine), torch.get_num_threads()])
    torch.set_num_threads(before)
    assert json.loads(found) == [engine, 1]


# Windows

def test_a_checkpoint_is_sealed_where_no_folder_can_be_opened(tmp_path, monkeypatch):
    "As on Windows."
    for name in checkpoint._PARTS: (tmp_path/name).write_text('{}')
    def opened(path, *args, real=os.open):
        if Path.is_dir(path): raise PermissionError(13, 'Permission denied', str(path))
        return real(path, *args)
    windows = SimpleNamespace(**vars(os) | dict(name='nt', open=opened))
    monkeypatch.setattr(files, 'os', windows)  # pathlib keeps the real one
    seal(tmp_path, 3)
    assert json.loads((tmp_path/'complete.json').read_text())['step'] == 3


# Training on a GPU

class OnGPU(nn.Parameter):
    "A parameter that takes itself to be on a GPU."
    is_cuda = True


def updated(model:nn.Module, steps:int=5) -> torch.optim.AdamW:
    "Descend for a few steps."
    config = TrainConfig(warmup_steps=0, lr=.01)
    optimizer = make_optimizer(model, config)
    for step in range(steps):
        set_rates(optimizer, step, config)
        optimizer.zero_grad()
        (model.weight.sin() - model.bias).square().sum().backward()
        optimizer.step()
    return optimizer


def layer(kind:type=nn.Parameter) -> nn.Linear:
    "A layer with parameters of this kind, always the same."
    torch.manual_seed(0)
    made = nn.Linear(3, 3)
    for name, value in list(made.named_parameters()): setattr(made, name, kind(value.detach()))
    return made


def test_one_kernel_updates_what_lies_on_a_gpu():
    "The same update to rounding; on a CPU, PyTorch's own loop as ever."
    plain, fused, half = layer(), layer(OnGPU), layer()
    half.bias = OnGPU(half.bias.detach())
    ways = [updated(model).defaults['fused'] for model in (plain, fused, half)]
    assert ways == [None, True, None]
    ours, theirs = (model.weight.detach().as_subclass(torch.Tensor) for model in (plain, fused))
    torch.testing.assert_close(ours, theirs)


def test_counts_of_the_kernel_stay_where_it_counts():
    "It would not take counts on the CPU; PyTorch's loop would wait for those on the GPU."
    class Count:
        def cpu(self): return 'on the CPU'
    for kind, where in ((nn.Parameter, str), (OnGPU, Count)):
        optimizer = updated(layer(kind))
        for state in optimizer.state.values(): state['step'] = Count()
        training._counts_on_cpu(optimizer)
        assert all(type(state['step']) is where for state in optimizer.state.values())


@pytest.mark.parametrize('before, after', [(True, None), (None, True)])
def test_a_run_goes_on_on_another_device(tmp_path, monkeypatch, before, after):
    "It takes that device's way of updating, not the one in the checkpoint."
    real, ways = make_optimizer, iter((before, after))
    def made(model, config):
        optimizer, way = real(model, config), next(ways)
        for group in (optimizer.defaults, *optimizer.param_groups): group['fused'] = way
        return optimizer
    monkeypatch.setattr(training, 'make_optimizer', made)
    config = TrainConfig(out=str(tmp_path/'run'), **SHORT)
    trainer = Trainer(config)
    for batches in trainer.updates():
        trainer.update(batches)
        if trainer.step == 2: break
    trainer.save()
    trainer.lock.release(force=True)
    again = Trainer(config)
    assert again.step == 2 and {group['fused'] for group in again.optimizer.param_groups} == {after}
    assert {float(state['step']) for state in again.optimizer.state.values()} == {2}
    again.lock.release(force=True)


def test_the_optimizer_gets_weights_that_are_on_the_device(tmp_path, monkeypatch):
    "Else it could not know that they are going to be on a GPU."
    monkeypatch.setattr(Trainer, 'check', lambda self: None)
    class Met(Exception): pass
    def made(model, config): raise Met({p.device.type for p in model.parameters()})
    def accelerator(config):
        found = make_accelerator(config)
        found.state.device = torch.device('meta')
        return found
    monkeypatch.setattr(training, 'make_optimizer', made)
    monkeypatch.setattr(training, 'make_accelerator', accelerator)
    try:
        with pytest.raises(Met, match="{'meta'}"): Trainer(TrainConfig(out=str(tmp_path), **SHORT))
    finally: make_accelerator(TrainConfig()).state.device = torch.device('cpu')


@pytest.mark.parametrize('gpu', [True, False])
def test_batches_cross_from_pinned_memory_while_the_gpu_computes(tmp_path, monkeypatch, gpu):
    "Recorded: which tensors are pinned, and how they are moved. A CPU gets them as they are."
    trainer = Trainer(TrainConfig(out=str(tmp_path/'run'), **SHORT))
    trainer.lock.release(force=True)
    pinned, moved = [], {}
    def to(self, target, *args, real=torch.Tensor.to, **how):
        moved[id(self)] = target, bool(how.get('non_blocking'))
        return self if target == torch.device('cuda') else real(self, target, *args, **how)
    monkeypatch.setattr(torch.Tensor, 'pin_memory', lambda self: pinned.append(id(self)) or self)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    monkeypatch.setattr(torch.accelerator, 'is_available', lambda: gpu)
    monkeypatch.setattr(torch.accelerator, 'current_accelerator', lambda: torch.device('cuda'))
    device, asked = torch.device('cuda' if gpu else 'cpu'), []
    monkeypatch.setattr(machine, 'Accelerator', lambda **how: asked.append(how) or SimpleNamespace(
        device=device, num_processes=1))
    trainer.accelerator = make_accelerator(trainer.config)
    early = asked[0]['dataloader_config'].non_blocking
    loader = prepare_data_loader(trainer.rest_of_stream(), device, put_on_device=True,
                                 num_processes=1, process_index=0, non_blocking=early)
    monkeypatch.setattr(torch.Tensor, 'to', to)
    batch = next(iter(loader))
    tensors = {id(x) for x in batch.values() if isinstance(x, torch.Tensor)}
    assert early is gpu and len(tensors) == 4
    assert tensors & set(pinned) == (tensors if gpu else set())
    assert {moved[tensor] for tensor in tensors} == {(device, gpu)}


# Images without objects

@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    "Twelve training images: one has a crowd alone, four have nothing."
    root = tmp_path_factory.mktemp('scenes')/'data'
    write_digits(root, train=12, val=4)
    file = next((root/'annotations').glob('*train*'))
    content = json.loads(file.read_text())
    ids = [image['id'] for image in content['images']]
    rows = [row for row in content['annotations'] if row['image_id'] not in ids[2:6]]
    for row in rows: row['iscrowd'] = int(row['image_id'] == ids[8])
    file.write_text(json.dumps(content | dict(annotations=rows)))
    return root


def full(root:Path) -> set:
    "Ids of the training images that have an object."
    content = json.loads(next((root/'annotations').glob('*train*')).read_text())
    return {row['image_id'] for row in content['annotations'] if not row['iscrowd']}


def streamed(config:TrainConfig, step:int=0) -> list:
    "The ids of the images that a run gets."
    images, shape = build(config, len)[1], Pix2SeqConfig.from_name('digits')
    loader = make_loader(config, shape, images, step=step)
    return [i for batch in loader for i in batch['image_ids']]


def test_images_without_objects_are_left_out(scenes):
    "In every epoch; and the rest of the stream is the same after a stop."
    config = TrainConfig(data=str(scenes), **SHORT | dict(steps=14), skip_empty=True)
    seen = streamed(config)
    assert len(full(scenes)) == 7 and set(seen) == full(scenes) and len(seen) == 28
    assert all(set(seen[k:k + 7]) == full(scenes) for k in range(0, 28, 7))
    assert streamed(config, 5) == seen[10:]
    assert len(set(streamed(replace(config, skip_empty=False)))) == 12


def test_what_is_left_is_as_it_was(scenes):
    whole = CocoDataset.from_folder(scenes)
    part = with_objects(whole)
    ids = [whole.image_id(i) for i in range(len(whole))]
    for i in range(len(part)):
        ours, theirs = part[i], whole[ids.index(part.image_id(i))]
        assert all(torch.equal(ours[name], theirs[name]) for name in ('image', 'boxes', 'labels'))


def test_how_many_are_left_out_is_printed_once(scenes):
    config, lines = TrainConfig(data=str(scenes), **SHORT), []
    build(config, lines.append)
    assert not any('skipped' in line for line in lines)
    build(replace(config, skip_empty=True), lines.append)
    assert [line for line in lines if 'skipped' in line] == [
        'training: 5 of 12 images hold no object and are skipped']


def test_a_run_without_empty_images_is_another_run(scenes, tmp_path):
    "The choice is recorded; epochs are counted over all images, as published."
    options = dict(data=str(scenes), out=str(tmp_path/'run'), **SHORT | dict(epochs=3.))
    trainer = Trainer(TrainConfig(**options, skip_empty=True))
    trainer.lock.release(force=True)
    assert trainer.config.steps == 18
    assert json.loads((tmp_path/'run/config.json').read_text())['skip_empty'] is True
    with pytest.raises(ValueError, match='skip_empty was True and now is False'):
        Trainer(TrainConfig(**options))


def test_published_recipes_leave_them_out():
    others = [name for name in RECIPES if not from_recipe(name).skip_empty]
    assert others == ['digits', 'small', 'photos']


# The tutorial on COCO

def test_the_tutorial_reads_coco_as_an_evaluation_does(monkeypatch):
    "With the run's workers, all threads, and the detector's device and engine."
    notebook = json.loads((Path(__file__).parent.parent/'nbs/tutorials/coco.ipynb').read_text())
    cells = [''.join(cell['source']) for cell in notebook['cells'] if cell['cell_type'] == 'code']
    start, judged = (next(c for c in cells if word in c)
                     for word in ('notebook_launcher(', 'coco_eval(found'))
    threads, asked = [], {}
    def from_pretrained(name):
        asked.update(name=name)
        return SimpleNamespace(model='model', engine='engine')
    def detect_dataset(model, dataset, limit, **how):
        asked.update(how, model=model, threads=list(threads))
        return [], []
    world = dict(torch=torch, io=io, redirect_stdout=redirect_stdout, processes=8, setting='coco',
                 config=from_recipe('coco-resnet50'),
                 train=None, follow=lambda out: io.StringIO(), val_set=range(5000), FIGURES=(),
                 notebook_launcher=lambda *task, **how: None, detect_dataset=detect_dataset,
                 Detector=SimpleNamespace(from_pretrained=from_pretrained),
                 coco_eval=lambda *found: SimpleNamespace(stats=()), show_precision_recall=id)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 16)
    monkeypatch.setattr(torch, 'set_num_threads', threads.append)
    exec(start, world)
    exec(judged, world)
    assert asked == dict(name='runs/coco-resnet50/checkpoint', model='model', reader='engine',
                         workers=8, threads=[1, 16])


# Many processes that start at once

def enter(place:str, barrier, patience:float=60.) -> None:
    "Claim a run's folder together with others."
    run_folder.lock_folder.__defaults__ = (patience,)
    barrier.wait()
    claim_folder(TrainConfig(out=place)).release(force=True)


def test_many_processes_that_claim_one_folder(tmp_path):
    "One after the other; the record is whole and nothing is left of the writing."
    context = multiprocessing.get_context('fork')
    for round in range(3):
        barrier, out = context.Barrier(8), tmp_path/f'run{round}'
        processes = [context.Process(target=enter, args=(str(out), barrier)) for _ in range(8)]
        for process in processes: process.start()
        for process in processes: process.join(60)
        assert [process.exitcode for process in processes] == [0]*8
        assert json.loads((out/'config.json').read_text())['out'] == str(out)
        assert not list(out.glob('*.new'))


def test_only_the_first_process_claims_the_folder(monkeypatch):
    "The others hear what it found, and its refusal."
    told = []
    monkeypatch.setattr(run_folder, 'broadcast_object_list', lambda answer: answer.__setitem__(
        slice(None), told))
    other = SimpleNamespace(is_main_process=False, num_processes=8)
    told[:] = 'the first one found this', None
    assert run_folder.from_main(other, lambda: pytest.fail('it wrote')) == told[0]
    told[:] = None, OSError('another process is training')
    with pytest.raises(OSError, match='another'): run_folder.from_main(other, lambda: None)
