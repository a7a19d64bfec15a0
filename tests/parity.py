"""The published implementation's recorded numbers against ours, stage by stage.

`python tests/parity.py ../shared/parity` prints the table. A folder below the root that holds
`ckpt` and `io.npz` is a model of any size; what lies beside them is the same for all models.
"""
import json
import sys
from collections.abc import Iterable, Iterator
from math import ceil, log10
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

from pix2seq.boxes import as_boxes, normalize_boxes
from pix2seq.layers import MLP, sincos_positions
from pix2seq.loss import sequence_loss, token_losses
from pix2seq.model import Pix2Seq
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.published_names import as_weight, is_training_state, our_name
from pix2seq.sampling import read_objects, truncate_logits
from pix2seq.sequence import (
    corrupt_classes,
    jitter_boxes,
    make_sequence,
    noise_boxes,
    random_boxes,
    shift_boxes,
)
from pix2seq.tf_checkpoint import TensorFlowCheckpoint
from pix2seq.tokenizer import BoxTokenizer, dequantize, quantize
from pix2seq.train_config import TrainConfig, learning_rate
from pix2seq.transforms import (
    FixedSizeCrop,
    ScaleJitter,
    boxes_to_original,
    drop_empty_boxes,
    eval_transform,
    pad_image,
)
from pix2seq.update import make_optimizer, set_rates

NAN = float("nan") # a difference that no bar allows
DIFFER = "tokens that differ"


class Row(NamedTuple):
    "A line of the table."
    stage:str
    difference:float # the largest; a count where things are equal or not
    bar:float        # the largest allowed

    @property
    def holds(self) -> bool:
        "Whether the difference is allowed: NaN never is."
        return self.difference <= self.bar

    def __str__(self) -> str:
        number = f"{self.difference:.1e}".replace("0.0e+00", "0")
        return number if self.holds else f"{number} !"


def arrays(file:Path) -> dict[str,Tensor]:
    "The numbers of a file, by name."
    found = np.load(file).items()
    return {name: torch.from_numpy(np.array(value)) for name, value in found
            if value.dtype.kind in "fiub"}


def apart(have:Tensor, want:Tensor) -> float:
    "The largest difference between two arrays of one shape."
    if have.shape != want.shape: return NAN
    return (have.double() - want.double()).abs().max().item()


def unequal(have:Tensor, want:Tensor) -> float:
    "How many entries differ."
    return (have != want).sum().item() if have.shape == want.shape else NAN


def most(differences:Iterable[float]) -> float:
    "The largest; NaN if one is NaN, which `max` finds in the first place alone."
    return np.max([*differences]).item()


def all_apart(have:dict[str,Tensor], want:dict[str,Tensor]) -> float:
    "The largest difference between what was recorded and ours of the same names."
    return most(apart(have[name], value) for name, value in want.items())


def yxyx(boxes:Tensor) -> Tensor:
    "Corners in the recording's order."
    return boxes[..., [1, 0, 3, 2]]


def nhwc(x:Tensor) -> Tensor:
    "Features with the channels last, as recorded."
    return x.permute(0, 2, 3, 1)


def state(model:nn.Module) -> dict[str,Tensor]:
    "A model's variables without the counts that PyTorch alone keeps."
    return {name: value for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")}


# ---- one model

class Fixture:
    "A small published model with what it computed."
    def __init__(self, folder:Path):
        self.folder, self.io = folder, arrays(folder/"io.npz")
        self.images = self.io["images"].permute(0, 3, 1, 2)
        config = self.json("config.json")
        self.given = dict(
            image_size=tuple(config["model"]["image_size"]), num_classes=900,
            quantization_bins=config["task"]["quantization_bins"], dropout=0., drop_path=0.,
            resnet_dilate_last=config["model"]["resnet_variant"] == "dc5")
        self.variables = {row["name"]: our_name(row["key"]) for row in self.json("name_map.json")}

    def json(self, file:str):
        "What a file of the folder holds."
        return json.loads((self.folder/file).read_text())

    def model(self, checkpoint:str="ckpt") -> Pix2Seq:
        "Our model with the published weights."
        return Pix2Seq.from_official(self.folder/checkpoint, **self.given)

    def recorded(self, file:str, start:str="") -> dict[str,Tensor]:
        "A file's variables whose names begin with `start`: as ours are, by our names."
        values, found = np.load(self.folder/file), {}
        for name in values.files:
            theirs = name[len(start):]
            if not name.startswith(start) or theirs not in self.variables: continue
            ours = self.variables[theirs]
            found[ours] = torch.from_numpy(np.array(as_weight(ours, values[name])))
        return found


def weights(fixture:Fixture) -> Iterator[Row]:
    "Every variable of every form in which the checkpoint was written."
    want = fixture.recorded("variables.npz")
    for checkpoint in sorted(path.name for path in fixture.folder.glob("ckpt*")):
        own = state(fixture.model(checkpoint))
        difference = all_apart(own, want) if own.keys() == want.keys() else NAN
        yield Row(f"variables of {checkpoint}", difference, 0)


class Recorder:
    "Keeps what modules compute, under the names of the recording."
    def __init__(self):
        self.seen, self.hooks = {}, []

    def output(self, module:nn.Module, name:str, change=lambda x: x):
        "Keep what a module returns."
        def hook(module, args, out): self.seen[name] = change(out)
        self.hooks.append(module.register_forward_hook(hook))

    def input(self, module:nn.Module, name:str, change=lambda x: x):
        "Keep what a module is given."
        def hook(module, args): self.seen[name] = change(args[0])
        self.hooks.append(module.register_forward_pre_hook(hook))

    def stop(self):
        "Keep nothing from now on."
        for hook in self.hooks: hook.remove()


def record_backbone(recorder:Recorder, backbone:nn.Module, kind:str):
    "Watch the patches of a ViT, or the stem and the stages of a ResNet."
    if kind == "vit":
        recorder.output(backbone, "stem_conv", nhwc)
        return
    recorder.output(backbone.conv1, "resnet_stem_1_initial_conv", nhwc)
    recorder.output(backbone.bn1, "resnet_stem_2_stem_bn_relu", lambda x: nhwc(F.relu(x)))
    recorder.input(backbone.layer1, "resnet_stem_4_initial_max_pool", nhwc)
    for g in range(1, backbone.groups + 1):
        recorder.output(getattr(backbone, f"layer{g}"), f"resnet_c{g + 1}", nhwc)


def record_layers(recorder:Recorder, model:Pix2Seq):
    "Watch what enters and leaves the layers of encoder and decoder."
    recorder.output(model.encoder.stem_norm, "stem_tokens")
    recorder.input(model.encoder.blocks[0], "encoder_x0")
    for i, block in enumerate(model.encoder.blocks, 1): recorder.output(block, f"encoder_x{i}")
    recorder.output(model.encoder.norm, "encoder_out")
    recorder.output(model.proj_norm, "proj_out")
    recorder.input(model.decoder[0], "dec_x0")
    for i, block in enumerate(model.decoder):
        recorder.output(block, f"dec_x{i + 1}")
        recorder.output(block.norm1, f"dec_cache{i}")


@torch.no_grad()
def intermediates(fixture:Fixture, model:Pix2Seq) -> dict[str,Tensor]:
    "What the parts of a model compute, under the names of the recording."
    io, images, config = fixture.io, fixture.images, model.config
    grid = model.encoder.backbone(images).shape[-2:]
    recorder = Recorder()
    record_backbone(recorder, model.encoder.backbone, config.backbone)
    record_layers(recorder, model)
    logits = model(images, io["input_seq"])
    recorder.stop()
    return recorder.seen | {
        "encoded": model.encode(images),
        "encoder_vis_pos_emb": sincos_positions(*grid, config.encoder_dim),
        "proj_vis_pos_emb": sincos_positions(*grid, config.decoder_dim),
        "tf_logits": logits,
        "multi_logits": model(images, io["multi_input_seq"]).flatten(0, 1),
    }


LAYERS = ("resnet_c", "encoder_x", "dec_x", "dec_cache")
STAGES = { # how the names of what was recorded begin
    "ResNet stem": "resnet_stem",
    "ResNet stages": "resnet_c",
    "patches": "stem_conv",
    "tokens": "stem_tokens",
    "encoder layers": "encoder_x",
    "encoder": "encoder_out",
    "projection": ("proj_out", "encoded"),
    "position codes": ("encoder_vis", "proj_vis"),
    "decoder layers": ("dec_x", "dec_cache"),
    "logits": "tf_logits",
    "logits, several sequences": "multi_logits",
}


def forward(fixture:Fixture) -> Iterator[Row]:
    "What each part computes; nothing holds where the recording has layers that we lack."
    seen = intermediates(fixture, fixture.model())
    lacking = any(name.startswith(LAYERS) and name not in seen for name in fixture.io)
    for stage, start in STAGES.items():
        found = [apart(value, fixture.io[name]) for name, value in seen.items()
                 if name.startswith(start) and name in fixture.io]
        if found: yield Row(stage, NAN if lacking else most(found), 5e-5)


@torch.no_grad()
def read_greedily(model:Pix2Seq, memory:Tensor, prompt:Tensor, steps:int) -> tuple[Tensor,Tensor]:
    "Tokens and logits with the cache: the prompt at once, then one token at a time."
    memory, cache = model.prepare(memory), model.new_cache(len(prompt), model.config.max_seq_len)
    read, all_logits = prompt, []
    for _ in range(steps):
        all_logits.append(model.decode(read, memory, cache)[:, -1])
        read = all_logits[-1].argmax(-1, keepdim=True)
    logits = torch.stack(all_logits, 1)
    return logits.argmax(-1), logits


@torch.no_grad()
def decoding(fixture:Fixture) -> Iterator[Row]:
    "Greedy decoding with the cache, from prompts of two lengths, and for two sequences an image."
    io, model = fixture.io, fixture.model()
    memory = model.encode(fixture.images)
    for name, start in {"greedy": "", "greedy, longer prompt": "long_"}.items():
        want = io[f"{start}infer_seq"]
        tokens, logits = read_greedily(model, memory, io[f"{start}prompt"], want.shape[1])
        yield Row(f"{name}: {DIFFER}", unequal(tokens, want), 0)
        yield Row(f"{name}: logits", apart(logits, io[f"{start}infer_logits"]), 1e-4)
        if not start: yield from detections(tokens, logits, model.config.tokenizer(), io)
    twice, want = io["prompt"].repeat_interleave(2, 0), io["infer_seq_num_samples2"]
    tokens, _ = read_greedily(model, memory, twice, want.shape[1])
    yield Row(f"greedy, two for an image: {DIFFER}", unequal(tokens, want), 0)


def detections(tokens:Tensor, logits:Tensor, tokenizer:BoxTokenizer, io:dict) -> Iterator[Row]:
    "The objects that decoded tokens stand for."
    boxes, labels, scores = read_objects(tokens, logits[:, 4::5], tokenizer)
    yield Row("detections: classes that differ", unequal(labels, io["infer_class"]), 0)
    yield Row("detections: boxes", apart(yxyx(boxes), io["infer_bbox"]), 1e-6)
    yield Row("detections: scores", apart(scores, io["infer_score"]), 1e-6)


def loss_of(model:Pix2Seq, fixture:Fixture) -> tuple[Tensor,Tensor]:
    "Logits and the weighted loss."
    logits = model(fixture.images, fixture.io["input_seq"])
    return logits, sequence_loss(logits, fixture.io["target_seq"], fixture.io["token_weights"])


def without_key_bias(values:dict[str,Tensor]) -> dict[str,Tensor]:
    "All but the biases of keys, whose gradients are zero but for rounding."
    return {name: value for name, value in values.items() if not name.endswith("key.bias")}


def relative(have:dict[str,Tensor], want:dict[str,Tensor]) -> float:
    "The largest difference, as a share of the array's largest entry."
    def share(name, value):
        return (have[name] - value).abs().max()/value.abs().max().clamp(min=1e-12)
    return most(share(name, value).item() for name, value in without_key_bias(want).items())


def losses(fixture:Fixture) -> Iterator[Row]:
    "The loss of each token and of all, and the gradients."
    io, model = fixture.io, fixture.model()
    logits, loss = loss_of(model, fixture)
    loss.backward()
    target, weights = io["target_seq"], io["token_weights"]
    yield Row("loss of each token", apart(token_losses(logits, target), io["token_loss"]), 5e-5)
    yield Row("loss, weighted", apart(loss, io["loss"]), 1e-5)
    unpadded = sequence_loss(logits, target, weights*(target != 0))
    yield Row("loss, without padding", apart(unpadded, io["loss_notpad"]), 1e-5)
    gradients = {name: value.grad for name, value in model.named_parameters()}
    want = fixture.recorded("grads_eval.npz")
    yield Row("gradients, relative", relative(gradients, want), 1e-4)


def training_gradients(model:Pix2Seq, want:dict[str,Tensor]) -> Iterator[Row]:
    "Below a ReLU whose input is all but zero, rounding decides whether a gradient passes."
    have, resnet = {name: value.grad for name, value in model.named_parameters()}, set()
    if model.config.backbone == "resnet":
        resnet = {name for name in want if name.startswith("encoder.backbone.")}
    others = {name: value for name, value in want.items() if name not in resnet}
    yield Row("training mode: gradients, relative", relative(have, others), 1e-3)
    if not resnet: return
    error = norm(have[name] - want[name] for name in resnet)
    size = norm(want[name] for name in resnet)
    yield Row("training mode: the ResNet's gradients, relative norm", error/size, 0.1)


def norm(parts:Iterable[Tensor]) -> float:
    "The length of the vector that arrays make together."
    return sum(part.square().sum() for part in parts).sqrt().item()


def training_mode(fixture:Fixture, model:Pix2Seq, logits:Tensor, want:Tensor) -> Iterator[Row]:
    "Logits, gradients and batch statistics before the first update."
    bar = 5e-3 if model.config.backbone == "resnet" else 5e-5
    yield Row("training mode: logits", apart(logits, want), bar)
    yield from training_gradients(model, fixture.recorded("train.npz", "grad:"))
    statistics = fixture.recorded("train.npz", "bn1:")
    if not statistics: return
    difference = all_apart(model.state_dict(), statistics)
    yield Row("training mode: batch statistics", difference, 5e-5)


def training(fixture:Fixture) -> Iterator[Row]:
    "In training mode, with all drop rates 0: batch statistics, and four updates by AdamW."
    model, recorded = fixture.model().train(), arrays(fixture.folder/"train.npz")
    adamw = fixture.json("info.json")["optimizer"]
    same = ("warmup_steps", "end_lr_factor", "weight_decay", "beta1", "beta2")
    config = TrainConfig(lr=1e-4, steps=adamw["train_steps"],
                         **{name: adamw[name] for name in same})
    optimizer, found, rates = make_optimizer(model, config), [], []
    for step in range(len(recorded["losses"])):
        set_rates(optimizer, step, config)
        logits, loss = loss_of(model, fixture)
        optimizer.zero_grad()
        loss.backward()
        found.append(loss.detach())
        rates.append(optimizer.param_groups[0]["lr"])
        if step == 0:
            yield from training_mode(fixture, model, logits, recorded["logits_train"])
        optimizer.step()
    yield Row("four updates: learning rates", apart(torch.tensor(rates), recorded["lrs"]), 1e-9)
    bar = 1e-3 if model.config.backbone == "resnet" else 2e-5
    yield Row("four updates: losses", apart(torch.stack(found), recorded["losses"]), bar)
    yield from after_updates(fixture, model)


def after_updates(fixture:Fixture, model:Pix2Seq) -> Iterator[Row]:
    "The variables that training left."
    want = without_key_bias(fixture.recorded("train.npz", "after4:"))
    statistics = {name: want.pop(name) for name in list(want) if "running" in name}
    bar = 5e-4 if model.config.backbone == "resnet" else 2e-5
    yield Row("four updates: parameters", all_apart(model.state_dict(), want), bar)
    if not statistics: return
    difference = all_apart(model.state_dict(), statistics)
    yield Row("four updates: batch statistics", difference, 5e-3)


# ---- what is the same for all models

def sequences(root:Path) -> Iterator[Row]:
    "From boxes to tokens, and back."
    z = arrays(root/"seq.npz")
    for bins in (1000, 2000):
        tokens, name = z[f"b{bins}_quantized"], f"quantization, {bins} bins"
        yield Row(f"{name}: {DIFFER}", unequal(quantize(z["bbox"], bins), tokens), 0)
        yield Row(f"{name}: back", apart(dequantize(tokens, bins), z[f"b{bins}_dequantized"]), 0)
        wrong = written(z, bins)
        yield Row(f"sequences, {bins} bins: tokens and weights that differ", wrong, 0)
    yield Row(f"corruption, same choices: {DIFFER}", corrupted(z), 0)
    yield from read_back(z)
    yield from on_original(z)
    yield from truncation(z)


def written(z:dict[str,Tensor], bins:int) -> float:
    "How many tokens and weights differ; the recorded noise objects take the place of ours."
    tokenizer, wrong = BoxTokenizer(900, bins, 3000), 0
    forms = (("n1", 1., 12), ("n0", 0., 12), ("pad", 1., 20)) # weight of noise objects, length
    for i, (boxes, labels) in enumerate(zip(yxyx(z["bbox"]), z["label"])):
        real, noise = labels > 0, labels < 0
        for name, weight, length in forms:
            with mock.patch("pix2seq.sequence.noise_boxes", return_value=(boxes[noise], None)):
                rows = make_sequence(boxes[real], labels[real], tokenizer, length, "given",
                                     corrupt=False, noise_weight=weight)
            for part, row in rows._asdict().items():
                wrong += misplaced(part, row, z[f"b{bins}_{name}_{part}"][i], labels)
    return wrong


def misplaced(part:str, row:Tensor, want:Tensor, labels:Tensor) -> float:
    "How many entries differ; of the objects alone where a hole parts them, which ours closes."
    hole = (labels[:-1] == 0).logical_and(labels[1:] != 0).any()
    if not hole: return unequal(row, want)
    if part == "input_seq": return 0
    row, want = row.view(-1, 5), want.view(-1, 5)
    padding = torch.zeros(len(want) - len(labels), dtype=torch.bool)
    objects = torch.cat([labels != 0, padding])
    return unequal(row[:objects.sum()], want[objects])


def corrupted(z:dict[str,Tensor]) -> float:
    "How many tokens differ that our code corrupts with the recorded random choices."
    tokenizer, wrong = BoxTokenizer(900, 1000, 3000), 0
    for tokens, want in zip(z["corrupt_none"], z["corrupt_rand_n_fake_cls"]):
        objects = tokens.view(-1, 5)[:, 4] > 0
        if not objects.any(): continue
        tokens, want = (x.view(-1, 5)[objects].flatten() for x in (tokens, want))
        classes = want[4::5]
        with (mock.patch("torch.rand", return_value=(classes != 30).float()),
              mock.patch("torch.randint", return_value=classes)):
            wrong += unequal(corrupt_classes(tokens, tokenizer), want)
    return wrong


def read_back(z:dict[str,Tensor]) -> Iterator[Row]:
    "The objects of recorded tokens."
    wrong, boxes_apart, scores_apart = 0, [], []
    for name, bins in (("dec_a", 1000), ("dec_b", 1000), ("dec_c", 2000)):
        tokenizer, logits = BoxTokenizer(900, bins, 3000), z[f"{name}_logits"][:, 4::5]
        boxes, labels, scores = read_objects(z[f"{name}_seq"], logits, tokenizer)
        wrong += unequal(labels, z[f"{name}_class"])
        boxes_apart.append(apart(yxyx(boxes), z[f"{name}_bbox"]))
        scores_apart.append(apart(scores, z[f"{name}_score"]))
    yield Row("reading: classes that differ", wrong, 0)
    yield Row("reading: boxes", most(boxes_apart), 1e-6)
    yield Row("reading: scores", most(scores_apart), 1e-6)


def on_original(z:dict[str,Tensor]) -> Iterator[Row]:
    "Boxes as pixels of the original image; ours end at its border."
    canvas, found = z["post_image_size"].tolist(), []
    sizes = zip(z["post_unpadded_size"].tolist(), z["post_orig_size"].tolist())
    boxes_and_want = zip(yxyx(z["dec_a_bbox"]), yxyx(z["post_bbox_rescaled"]))
    for (boxes, want), (unpadded, original) in zip(boxes_and_want, sizes):
        limit = torch.tensor([original[1], original[0]]*2)
        have = boxes_to_original(boxes, canvas, unpadded, original)
        found.append(apart(have/limit, want.minimum(limit)/limit))
    yield Row("boxes on the original image, share of its side", most(found), 1e-6)


def truncation(z:dict[str,Tensor]) -> Iterator[Row]:
    "The tokens that top-k and top-p leave."
    for name, want in z.items():
        if not name.startswith("trunc_k"): continue
        k, p = name.removeprefix("trunc_k").split("_p")
        have = truncate_logits(z["trunc_in"], int(k), float(p))
        wrong = unequal(have.isfinite(), want > -1e8)
        yield Row(f"truncation, top_k {k}, top_p {p}: {DIFFER}", wrong, 0)


def recorded_sample(z:dict[str,Tensor], tag:str) -> dict:
    "An image with its boxes, before any transform."
    image = tv_tensors.Image(z[f"{tag}_in_uint8"].permute(2, 0, 1))
    height, width = image.shape[-2:]
    boxes = yxyx(z[f"{tag}_bbox_in"])*torch.tensor([width, height, width, height])
    return dict(image=image, boxes=as_boxes(boxes, (height, width)))


AUGMENTED = { # bars of what `augmented` returns
    "training images, same choices": 2e-3,
    "training boxes, same choices": 1e-5,
    "training objects kept that differ": 0,
    "training choices that ours cannot make": 0,
}


def images(root:Path) -> Iterator[Row]:
    "Images and boxes on the canvas, in evaluation and in training."
    z = arrays(root/"preprocess.npz")
    pixels, corners = [], []
    for tag in sorted({name.split("_")[1] for name in z if name.startswith("eval_")}):
        tag = f"eval_{tag}"
        canvas = tuple(z[f"{tag}_target"].tolist())
        out = eval_transform(canvas)(recorded_sample(z, tag))
        image = pad_image(out["image"], canvas).permute(1, 2, 0)
        pixels.append(apart(image, z[f"{tag}_out"]))
        boxes = yxyx(normalize_boxes(out["boxes"], canvas))
        corners.append(apart(boxes, z[f"{tag}_bbox_out"][:len(boxes)]))
    yield Row("evaluation images", most(pixels), 2e-3)
    yield Row("evaluation boxes", most(corners), 1e-6)
    numbers = {name.split("_")[1] for name in z if name.startswith("train_")}
    found = [augmented(z, f"train_{number}") for number in numbers if number.isdigit()]
    for (stage, bar), differences in zip(AUGMENTED.items(), zip(*found)):
        yield Row(stage, most(differences), bar)


def augmented(z:dict[str,Tensor], tag:str) -> tuple[float,float,int,int]:
    "Our transforms with the recorded sizes, places and flips; see `AUGMENTED`."
    sample, canvas = recorded_sample(z, tag), tuple(z["train_target"].tolist())
    original = sample["image"].shape[-2:]
    scaled, offset, cut = (z[f"{tag}_{name}"].tolist()
                           for name in ("scaled_size", "crop_offset", "crop_size"))
    place = dict(top=offset[0], left=offset[1], height=cut[0], width=cut[1])
    choices = [(ScaleJitter(canvas), dict(size=scaled)), (FixedSizeCrop(canvas), place)]
    sample = transformed(sample, choices, flipped=z[f"{tag}_flipped"], real=~z[f"{tag}_is_crowd"])
    image = pad_image(sample["image"], canvas).permute(1, 2, 0)
    pixels = apart(image, z[f"{tag}_out"])
    kept = z[f"{tag}_filter_label"]
    if not torch.equal(kept.sort().values, sample["labels"]): return pixels, NAN, 1, 0
    recorded_order = kept.argsort().argsort()
    boxes = yxyx(normalize_boxes(sample["boxes"], canvas))[recorded_order]
    corners = apart(boxes, z[f"{tag}_pad_bbox"])
    return pixels, corners, 0, impossible(canvas, original, scaled, offset)


def transformed(sample:dict, choices:list, flipped:Tensor, real:Tensor) -> dict:
    "A sample after transforms with chosen parameters, without crowds and empty boxes."
    sample["image"] = TF.to_dtype(sample["image"], torch.float32, scale=True)
    parts = ("image", "boxes")
    for transform, params in choices:
        sample |= {name: transform.transform(sample[name], params) for name in parts}
    if flipped: sample |= {name: TF.horizontal_flip(sample[name]) for name in parts}
    boxes, labels = TF.clamp_bounding_boxes(sample["boxes"]), torch.arange(1, len(real) + 1)
    boxes = tv_tensors.wrap(boxes[real], like=boxes)
    return drop_empty_boxes(dict(sample, boxes=boxes, labels=labels[real]))


def impossible(canvas:tuple, original:tuple, scaled:list, offset:list) -> int:
    "How many of the recorded size and place no random choice of ours can give."
    scale = min(c/s for c, s in zip(canvas, original))
    sizes = [(n/(s*scale), (n + 1)/(s*scale)) for n, s in zip(scaled, original)]
    rooms = [max(0, s - c) for s, c in zip(scaled, canvas)]
    places = [(o/room, (o + 1)/room) for o, room in zip(offset, rooms) if room]
    return sum(max(low for low, _ in ranges) >= min(high for _, high in ranges)
               for ranges in ([*sizes, (.3, 2.)], [*places, (0., 1.)]))


def optimization(root:Path) -> Iterator[Row]:
    "Schedules, AdamW, and small functions."
    z = arrays(root/"optim.npz")
    yield from schedules(z)
    yield Row("AdamW, five updates", adamw_apart(z), 1e-6)
    losses = token_losses(z["loss_logits"], z["loss_target"])
    yield Row("token losses", apart(losses, z["loss_xent"]), 1e-6)
    yield Row("GELU", apart(MLP(1, 1)[1](z["gelu_x"]), z["gelu_y"]), 1e-6)
    yield from position_codes(z)


def schedules(z:dict[str,Tensor]) -> Iterator[Row]:
    "Learning rates; a run of ours ends with its last update."
    warmup, total = z["lr_finetune_warm_total"].tolist()
    configs = {"linear": TrainConfig(lr=3e-5, warmup_steps=20, steps=100),
               "finetune": TrainConfig(lr=3e-5, warmup_steps=warmup, steps=total)}
    for name, config in configs.items():
        steps, rates = z[f"lr_{name}_steps"].tolist(), z[f"lr_{name}"].tolist()
        found = [abs(learning_rate(min(step, config.steps), config) - rate)
                 for step, rate in zip(steps, rates)]
        yield Row(f"schedule, {name}, share of the peak", most(found)/config.lr, 1e-6)


def adamw_apart(z:dict[str,Tensor]) -> float:
    "The largest difference of a parameter after any update."
    names = [name.removeprefix("init:") for name in z if name.startswith("init:")]
    module = nn.ParameterList([z[f"init:{name}"].clone() for name in names])
    config, found = TrainConfig(weight_decay=.05), []
    optimizer = make_optimizer(module, config)
    for step, rate in enumerate(z["opt_lrs"].tolist()):
        set_rates(optimizer, step, config)
        for group in optimizer.param_groups: group["lr"] = rate
        for parameter, name in zip(module, names):
            parameter.grad = z[f"grad{step}:{name}"].clone()
        optimizer.step()
        found += [apart(parameter.detach(), z[f"adamw:{step}:{name}"])
                  for parameter, name in zip(module, names)]
    return most(found)


def position_codes(z:dict[str,Tensor]) -> Iterator[Row]:
    "Codes of grids and of rows; of large ones, every n-th position was recorded."
    for name, want in z.items():
        if not name.startswith("pos"): continue
        *grid, dim = map(int, name.split("_")[1:])
        code = sincos_positions(*(grid if len(grid) == 2 else (1, *grid)), dim)
        stage = f"position code, {'×'.join(map(str, grid))} of {dim} channels"
        yield Row(stage, apart(code[::ceil(len(code)/len(want))], want), 1e-6)


# ---- random choices

def surprise(test) -> float:
    "-log10 of the chance that a statistical test found: 3 is one in a thousand."
    return -log10(max(test.pvalue, 1e-99))


BOX, MANY = torch.tensor([[.4, .3, .6, .6]]), 20_000


def noise(root:Path) -> Iterator[Row]:
    "Whether our random choices are drawn from what was recorded, or from what that was drawn from."
    recorded, g = json.loads((root/"stats.json").read_text()), torch.Generator().manual_seed(0)
    yield from corruption(recorded["corruption:rand_n_fake_cls"], g)
    yield from kinds_of_noise(recorded["noise_boxes"]["n_noise"], g)
    yield from duplicates(recorded["noise_boxes"], g)
    yield from places_of_noise(recorded["noise_boxes"], g)


def corruption(recorded:dict, g:torch.Generator) -> Iterator[Row]:
    "The classes that corrupted objects get."
    tokenizer, n = BoxTokenizer(900, 1000, 3000), recorded["n"]
    tokens = tokenizer.encode(BOX.repeat(MANY, 1), torch.full((MANY,), 57))
    classes = corrupt_classes(tokens, tokenizer, g)[4::5]
    for name, token in (("frac_fake_token30", 30), ("frac_equal_real", 157)):
        want = [round(recorded[name]*n), round((1 - recorded[name])*n)]
        have = [(classes == token).sum().item(), (classes != token).sum().item()]
        yield Row(f"corruption, {name}: surprise", surprise(stats.fisher_exact([want, have])), 3)
    drawn = classes[classes != 30].bincount(minlength=1000)
    is_class = drawn[:100].sum() == 0
    difference = surprise(stats.chisquare(drawn[100:])) if is_class else NAN
    yield Row("corruption, random classes: surprise", difference, 3)


def kinds_of_noise(n:int, g:torch.Generator) -> Iterator[Row]:
    "How many noise objects are duplicates, shifted and random."
    kinds = torch.stack([noise_boxes(BOX, n, g)[1].bincount(minlength=3) for _ in range(4000)])
    numbers = kinds[:, 0].bincount(minlength=n + 1)
    yield Row("noise, number of duplicates: surprise", surprise(stats.chisquare(numbers)), 3)
    # halves drawn without replacement: closer to one half than a coin would be
    shifted, free = kinds[:, 1:].sum(0).tolist()
    coin = stats.binomtest(shifted, shifted + free)
    yield Row("noise, shifted against random: surprise", surprise(coin), 3)


def duplicates(recorded:dict, g:torch.Generator) -> Iterator[Row]:
    "How far the sides of duplicates move, as a share of the box."
    moves = jitter_boxes(BOX.repeat(MANY, 1), generator=g) - BOX
    rates = (moves/(BOX[:, 2:] - BOX[:, :2]).repeat(1, 2)).flatten().numpy()
    wanted = stats.truncnorm(-2, 2, scale=.05)
    yield Row("duplicates, moves: surprise", surprise(stats.kstest(rates, wanted.cdf)), 3)
    deviation = abs(rates.std() - recorded["jitter_rate_std"])
    yield Row("duplicates, deviation of the moves", deviation, 3e-4)
    largest = abs(np.abs(rates).max() - recorded["jitter_rate_absmax"])
    yield Row("duplicates, largest move", largest, 1e-4)


def places_of_noise(recorded:dict, g:torch.Generator) -> Iterator[Row]:
    "Centres and sizes of shifted and random boxes, before the image's border cuts them."
    def uncut(centers, sizes): return torch.cat([centers, sizes], 1)
    with mock.patch("pix2seq.sequence._around", uncut):
        shifted, free = shift_boxes(BOX.repeat(MANY, 1), g), random_boxes(MANY, g)
    same = (BOX[:, 2:] - BOX[:, :2]).expand(MANY, 2)
    yield Row("shifted boxes, sizes", apart(shifted[:, 2:], same), 1e-6)
    for name, boxes in (("shifted", shifted), ("random", free)):
        uniform = stats.kstest(boxes[:, :2].flatten().numpy(), "uniform")
        yield Row(f"{name} boxes, centres: surprise", surprise(uniform), 3)
    sizes, wanted = free[:, 2:].flatten().numpy(), stats.truncnorm(-2, 2, scale=.5)
    half_normal = stats.kstest(sizes, lambda x: wanted.cdf(x)*2 - 1)
    yield Row("random boxes, sizes: surprise", surprise(half_normal), 3)
    mean = stats.ttest_1samp(sizes, recorded["random_box_h_mean"])
    yield Row("random boxes, mean size: surprise", surprise(mean), 3)


# ---- full size, and what the training program writes

PRESETS = {"R50": "resnet50", "R101": "resnet101", "R50-C4": "resnet50-c4",
           "R50-DC5": "resnet50-dc5", "ViT-B": "vit-b", "ViT-L": "vit-l"}


def blank(tag:str, **fields) -> Pix2Seq:
    "A model of the published size that has shapes alone."
    with torch.device("meta"): return Pix2Seq(Pix2SeqConfig.from_name(PRESETS[tag], **fields))


def count(variables:Iterable[Tensor]) -> int:
    "How many numbers arrays hold."
    return sum(value.numel() for value in variables)


def full_size(root:Path) -> Iterator[Row]:
    "The published shapes, without the numbers."
    for row in json.loads((root/"param_counts.json").read_text()):
        tag = max((tag for tag in PRESETS if row["tag"].startswith(tag)), key=len)
        model = blank(tag, vocab_size=row["cfg"]["vocab_size"], image_size=tuple(row["image_size"]))
        wrong = (abs(count(model.parameters()) - row["trainable"])
                 + abs(count(state(model).values()) - row["total_with_bn_stats"]))
        yield Row(f"{row['tag']}: parameters that differ", wrong, 0)
    for file in sorted((root/"keys").glob("*.tsv")):
        tag = file.stem.removeprefix("keys_full_")
        lonely = unmatched(file, state(blank(tag)))
        yield Row(f"{tag}: keys without a place, places without a key", lonely, 0)


def unmatched(file:Path, own:dict[str,Tensor]) -> int:
    "How many keys of a published list have no place of their shape in ours, and the reverse."
    places, lines = {}, file.read_text().splitlines()
    for line in lines:
        key, shape, *_ = line.split("\t")
        value = np.broadcast_to(np.float32(0), tuple(map(int, filter(None, shape.split(",")))))
        name = our_name(key)
        if name: places[name] = as_weight(name, value).shape
    ours = {name: tuple(value.shape) for name, value in own.items()}
    return len(places.items() ^ ours.items()) + len(lines) - len(places)


def training_checkpoint(root:Path) -> Iterator[Row]:
    "A checkpoint that the training program itself wrote."
    folder = root/"written_by_training"
    checkpoint, model = TensorFlowCheckpoint(folder), Pix2Seq.from_official(folder, num_classes=900)
    own, found = model.state_dict(), []
    for key in checkpoint.entries:
        if is_training_state(key): continue
        name = our_name(key)
        want = torch.from_numpy(as_weight(name, checkpoint[key]).copy())
        found.append(apart(own[name], want))
    yield Row("written by training: variables", most(found), 0)


# ---- the table

OF_A_MODEL = [weights, forward, decoding, losses, training]
OF_ALL = {
    "seq.npz": sequences,
    "preprocess.npz": images,
    "optim.npz": optimization,
    "stats.json": noise,
    "param_counts.json": full_size,
    "written_by_training": training_checkpoint,
}


def models(root:Path) -> list[Path]:
    "The folders of models below a root."
    return sorted(path.parent for path in root.glob("*/io.npz"))


def print_line(*cells):
    "Print a line of a table."
    print("|", " | ".join(map(str, cells)), "|")


def main(root:Path):
    "Print both tables; fail if a difference is larger than its bar."
    columns = [[row for compare in OF_A_MODEL for row in compare(Fixture(folder))]
               for folder in models(root)]
    print_line("stage", "bar", *(folder.name for folder in models(root)))
    print("|" + "---|"*(len(columns) + 2))
    for stage in dict.fromkeys(row.stage for column in columns for row in column):
        cells = [next((row for row in column if row.stage == stage), None) for column in columns]
        bars = sorted({row.bar for row in cells if row})
        print_line(stage, " or ".join(f"{bar:g}" for bar in bars), *(row or "" for row in cells))
    rows = [row for name, compare in OF_ALL.items() if (root/name).exists()
            for row in compare(root)]
    print("\n| stage | bar | difference |\n|---|---|---|")
    for row in rows: print_line(row.stage, f"{row.bar:g}", row)
    over = sum(not row.holds for row in [*rows, *(row for column in columns for row in column)])
    if over: sys.exit(f"\n{over} differences are larger than they may be")


if __name__ == "__main__": main(Path(sys.argv[1]))
