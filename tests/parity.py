"""Numbers recorded from the published implementation, compared with ours, stage by stage: `python tests/parity.py ../shared/parity`.

A folder below the root that holds `ckpt` and `io.npz` is a model of any size; what lies beside them is the same for all models."""
import json
import sys
from math import ceil, log10
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as TF

from pix2seq.boxes import as_boxes, normalize_boxes
from pix2seq.layers import MLP, sincos_positions
from pix2seq.loss import sequence_loss, token_losses
from pix2seq.model import Pix2Seq, Pix2SeqConfig
from pix2seq.official import TensorFlowCheckpoint, as_weight, is_training_state, our_name
from pix2seq.sampling import read_objects, truncate_logits
from pix2seq.sequence import corrupt_classes, jitter_boxes, make_sequence, noise_boxes, random_boxes, shift_boxes
from pix2seq.tokenizer import BoxTokenizer, dequantize, quantize
from pix2seq.training import TrainConfig, learning_rate, make_optimizer, set_rates
from pix2seq.transforms import FixedSizeCrop, ScaleJitter, boxes_to_original, drop_empty_boxes, eval_transform, pad_image


class Row(NamedTuple):
    stage:str
    difference:float # the largest; a count where things are equal or not
    bar:float        # the largest allowed

    @property
    def holds(self) -> bool: return self.difference <= self.bar # not a number does not


def arrays(file:Path) -> dict[str,Tensor]: return {name: torch.from_numpy(np.array(value)) for name, value in np.load(file).items() if value.dtype.kind in "fiub"}
def apart(have:Tensor, want:Tensor) -> float: return (have.double() - want.double()).abs().max().item() if have.shape == want.shape else float("nan")
def unequal(have:Tensor, want:Tensor) -> float: return (have != want).sum().item() if have.shape == want.shape else float("nan")
def yxyx(boxes:Tensor) -> Tensor: return boxes[..., [1, 0, 3, 2]]
def nhwc(x:Tensor) -> Tensor: return x.permute(0, 2, 3, 1)


# ---- one model

class Fixture:
    "A small published model with what it computed."
    def __init__(self, folder:Path):
        self.folder, self.io = folder, arrays(folder/"io.npz")
        self.images, recorded = self.io["images"].permute(0, 3, 1, 2), json.loads((folder/"config.json").read_text())
        self.given = dict(image_size=tuple(recorded["model"]["image_size"]), num_classes=900, dropout=0., drop_path=0.,
                          quantization_bins=recorded["task"]["quantization_bins"], resnet_dilate_last=recorded["model"]["resnet_variant"] == "dc5")
        self.variables = {row["name"]: our_name(row["key"]) for row in json.loads((folder/"name_map.json").read_text())}

    def model(self, checkpoint:str="ckpt") -> Pix2Seq: return Pix2Seq.from_official(self.folder/checkpoint, **self.given)

    def recorded(self, file:str, start:str="") -> dict[str,Tensor]: # variables as ours, by our names
        values = np.load(self.folder/file)
        return {self.variables[name[len(start):]]: torch.from_numpy(np.array(as_weight(self.variables[name[len(start):]], values[name])))
                for name in values.files if name.startswith(start) and name[len(start):] in self.variables}


def weights(fixture:Fixture) -> list[Row]:
    want = fixture.recorded("variables.npz")
    for checkpoint in sorted(path.name for path in fixture.folder.glob("ckpt*")):
        own = {name: value for name, value in fixture.model(checkpoint).state_dict().items() if not name.endswith("num_batches_tracked")}
        yield Row(f"variables of {checkpoint}", max(apart(own[name], want[name]) for name in want) if own.keys() == want.keys() else float("nan"), 0)


@torch.no_grad()
def intermediates(fixture:Fixture, model:Pix2Seq) -> dict[str,Tensor]: # under the names of the recording
    seen, e, grid = {}, model.encoder, model.encoder.backbone(fixture.images).shape[-2:]
    def keep(module, name, change=lambda x: x): hooks.append(module.register_forward_hook(lambda m, args, out: seen.__setitem__(name, change(out))))
    def keep_input(module, name, change=lambda x: x): hooks.append(module.register_forward_pre_hook(lambda m, args: seen.__setitem__(name, change(args[0]))))
    hooks = []
    if model.config.backbone == "vit": keep(e.backbone, "stem_conv", nhwc)
    else:
        keep(e.backbone.conv1, "resnet_stem_1_initial_conv", nhwc)
        keep(e.backbone.bn1, "resnet_stem_2_stem_bn_relu", lambda x: nhwc(F.relu(x)))
        keep_input(e.backbone.layer1, "resnet_stem_4_initial_max_pool", nhwc)
        for g in range(e.backbone.groups): keep(getattr(e.backbone, f"layer{g + 1}"), f"resnet_c{g + 2}", nhwc)
    keep(e.stem_norm, "stem_tokens"); keep_input(e.blocks[0], "encoder_x0"); keep(e.norm, "encoder_out"); keep(model.proj_norm, "proj_out")
    for i, block in enumerate(e.blocks): keep(block, f"encoder_x{i + 1}")
    keep_input(model.decoder[0], "dec_x0")
    for i, block in enumerate(model.decoder): keep(block, f"dec_x{i + 1}"); keep(block.norm1, f"dec_cache{i}")
    seen["tf_logits"] = model(fixture.images, fixture.io["input_seq"])
    for hook in hooks: hook.remove()
    return seen | {"encoded": model.encode(fixture.images), "multi_logits": model(fixture.images, fixture.io["multi_input_seq"]).flatten(0, 1),
                   "encoder_vis_pos_emb": sincos_positions(*grid, model.config.encoder_dim), "proj_vis_pos_emb": sincos_positions(*grid, model.config.decoder_dim)}


STAGES = {"ResNet stem": "resnet_stem", "ResNet stages": "resnet_c", "patches": "stem_conv", "tokens": "stem_tokens", "encoder layers": "encoder_x", "encoder": "encoder_out",
          "projection": ("proj_out", "encoded"), "position codes": ("encoder_vis", "proj_vis"), "decoder layers": ("dec_x", "dec_cache"),
          "logits": "tf_logits", "logits, several sequences": "multi_logits"}

def forward(fixture:Fixture) -> list[Row]:
    seen = intermediates(fixture, fixture.model())
    unseen = [name for name in fixture.io if name.startswith(("resnet_c", "encoder_x", "dec_x", "dec_cache")) and name not in seen] # layers that we lack
    for stage, start in STAGES.items():
        found = [apart(value, fixture.io[name]) for name, value in seen.items() if name.startswith(start) and name in fixture.io]
        if found: yield Row(stage, max(found) if not unseen else float("nan"), 5e-5)


@torch.no_grad()
def read_greedily(model:Pix2Seq, memory:Tensor, prompt:Tensor, steps:int) -> tuple[Tensor,Tensor]: # with the cache, the prompt at once, then one token at a time
    memory, cache, read, all_logits = model.prepare(memory), model.new_cache(len(prompt), model.config.max_seq_len), prompt, []
    for _ in range(steps):
        all_logits.append(model.decode(read, memory, cache)[:, -1])
        read = all_logits[-1].argmax(-1, keepdim=True)
    logits = torch.stack(all_logits, 1)
    return logits.argmax(-1), logits

@torch.no_grad()
def decoding(fixture:Fixture) -> list[Row]:
    io, model = fixture.io, fixture.model()
    memory = model.encode(fixture.images)
    for name, start in {"greedy": "", "greedy, longer prompt": "long_"}.items():
        tokens, logits = read_greedily(model, memory, io[start + "prompt"], io[start + "infer_seq"].shape[1])
        yield Row(f"{name}: tokens that differ", unequal(tokens, io[start + "infer_seq"]), 0)
        yield Row(f"{name}: logits", apart(logits, io[start + "infer_logits"]), 1e-4)
        if start: continue
        boxes, labels, scores = read_objects(tokens, logits[:, 4::5], model.config.tokenizer())
        yield Row("detections: classes that differ", unequal(labels, io["infer_class"]), 0)
        yield Row("detections: boxes", apart(yxyx(boxes), io["infer_bbox"]), 1e-6)
        yield Row("detections: scores", apart(scores, io["infer_score"]), 1e-6)
    twice = io["prompt"].repeat_interleave(2, 0)
    yield Row("greedy, two for an image: tokens that differ", unequal(read_greedily(model, memory, twice, io["infer_seq_num_samples2"].shape[1])[0], io["infer_seq_num_samples2"]), 0)


def loss_of(model:Pix2Seq, fixture:Fixture) -> tuple[Tensor,Tensor]: # logits and the weighted loss
    logits = model(fixture.images, fixture.io["input_seq"])
    return logits, sequence_loss(logits, fixture.io["target_seq"], fixture.io["token_weights"])

def relative(have:dict[str,Tensor], want:dict[str,Tensor]) -> float: # of the largest entry; the gradient of a key's bias is zero but for rounding
    return max(((have[name] - value).abs().max()/value.abs().max().clamp(min=1e-12)).item() for name, value in want.items() if not name.endswith("key.bias"))

def losses(fixture:Fixture) -> list[Row]:
    io, model = fixture.io, fixture.model()
    logits, loss = loss_of(model, fixture)
    loss.backward()
    target, weights = io["target_seq"], io["token_weights"]
    yield Row("loss of each token", apart(token_losses(logits, target), io["token_loss"]), 5e-5)
    yield Row("loss, weighted", apart(loss, io["loss"]), 1e-5)
    yield Row("loss, without padding", apart(sequence_loss(logits, target, weights*(target != 0)), io["loss_notpad"]), 1e-5)
    gradients = {name: value.grad for name, value in model.named_parameters()}
    yield Row("gradients, relative", relative(gradients, fixture.recorded("grads_eval.npz")), 1e-4)


def training_gradients(model:Pix2Seq, want:dict[str,Tensor]) -> list[Row]: # below a ReLU whose input is all but zero, rounding decides whether a gradient passes
    have, resnet = {name: value.grad for name, value in model.named_parameters()}, {name for name in want if name.startswith("encoder.backbone.") and model.config.backbone == "resnet"}
    yield Row("training mode: gradients, relative", relative(have, {name: value for name, value in want.items() if name not in resnet}), 1e-3)
    if not resnet: return
    error, size = (sum(part.square().sum() for part in parts).sqrt().item() for parts in ([have[name] - want[name] for name in resnet], [want[name] for name in resnet]))
    yield Row("training mode: the ResNet's gradients, relative norm", error/size, 0.1)


def training(fixture:Fixture) -> list[Row]: # in training mode, with all drop rates 0: batch statistics, and four updates by AdamW
    model, recorded = fixture.model().train(), arrays(fixture.folder/"train.npz")
    adamw, batch_norm = json.loads((fixture.folder/"info.json").read_text())["optimizer"], model.config.backbone == "resnet"
    config = TrainConfig(lr=1e-4, warmup_steps=adamw["warmup_steps"], steps=adamw["train_steps"], end_lr_factor=adamw["end_lr_factor"],
                         weight_decay=adamw["weight_decay"], beta1=adamw["beta1"], beta2=adamw["beta2"])
    optimizer, found, lrs = make_optimizer(model, config), [], []
    for step in range(len(recorded["losses"])):
        set_rates(optimizer, step, config)
        logits, loss = loss_of(model, fixture)
        optimizer.zero_grad()
        loss.backward()
        found.append(loss.detach()); lrs.append(optimizer.param_groups[0]["lr"])
        if step == 0:
            yield Row("training mode: logits", apart(logits, recorded["logits_train"]), 5e-3 if batch_norm else 5e-5)
            yield from training_gradients(model, fixture.recorded("train.npz", "grad:"))
            first = fixture.recorded("train.npz", "bn1:")
            if first: yield Row("training mode: batch statistics", max(apart(model.state_dict()[name], value) for name, value in first.items()), 5e-5)
        optimizer.step()
    yield Row("four updates: learning rates", apart(torch.tensor(lrs), recorded["lrs"]), 1e-9)
    yield Row("four updates: losses", apart(torch.stack(found), recorded["losses"]), 1e-3 if batch_norm else 2e-5)
    after = {name: apart(model.state_dict()[name], value) for name, value in fixture.recorded("train.npz", "after4:").items() if not name.endswith("key.bias")}
    statistics = [after.pop(name) for name in list(after) if "running" in name]
    yield Row("four updates: parameters", max(after.values()), 5e-4 if batch_norm else 2e-5)
    if statistics: yield Row("four updates: batch statistics", max(statistics), 5e-3)


# ---- what is the same for all models

def sequences(root:Path) -> list[Row]:
    z = arrays(root/"seq.npz")
    for bins in (1000, 2000):
        yield Row(f"quantization, {bins} bins: tokens that differ", unequal(quantize(z["bbox"], bins), z[f"b{bins}_quantized"]), 0)
        yield Row(f"quantization, {bins} bins: back", apart(dequantize(z[f"b{bins}_quantized"], bins), z[f"b{bins}_dequantized"]), 0)
        yield Row(f"sequences, {bins} bins: tokens and weights that differ", _written(z, bins), 0)
    yield Row("corruption, same choices: tokens that differ", _corrupted(z), 0)
    yield from _read(z)

def _written(z, bins): # the recorded noise objects take the place of ours
    tokenizer, wrong = BoxTokenizer(900, bins, 3000), 0
    for boxes, labels, i in zip(yxyx(z["bbox"]), z["label"], range(99)):
        real, noise = labels > 0, labels < 0
        for name, weight, length in ((f"b{bins}_n1", 1., 12), (f"b{bins}_n0", 0., 12), (f"b{bins}_pad", 1., 20)):
            with mock.patch("pix2seq.sequence.noise_boxes", lambda *args: (boxes[noise], None)):
                rows = make_sequence(boxes[real], labels[real], tokenizer, length, "given", corrupt=False, noise_weight=weight)
            inside = torch.cat([labels != 0, torch.zeros(length - 12, dtype=torch.bool)]) # the fourth image has a hole, which ours closes
            for part, row in rows._asdict().items():
                want = z[f"{name}_{part}"][i]
                if (labels[:-1] == 0).logical_and(labels[1:] != 0).any(): # compare the objects alone
                    if part != "input_seq": wrong += unequal(row.view(-1, 5)[:inside.sum()], want.view(-1, 5)[inside])
                else: wrong += unequal(row, want)
    return wrong

def _corrupted(z): # our code with the recorded random choices
    tokenizer, wrong = BoxTokenizer(900, 1000, 3000), 0
    for tokens, want in zip(z["corrupt_none"], z["corrupt_rand_n_fake_cls"]):
        objects = tokens.view(-1, 5)[:, 4] > 0
        tokens, want = tokens.view(-1, 5)[objects].flatten(), want.view(-1, 5)[objects].flatten()
        with mock.patch("torch.rand", lambda *args, **kw: (want[4::5] != 30).float()), mock.patch("torch.randint", lambda *args, **kw: want[4::5]):
            wrong += unequal(corrupt_classes(tokens, tokenizer), want) if len(tokens) else 0
    return wrong

def _read(z):
    parts = {name: read_objects(z[f"{name}_seq"], z[f"{name}_logits"][:, 4::5], BoxTokenizer(900, bins, 3000)) for name, bins in (("dec_a", 1000), ("dec_b", 1000), ("dec_c", 2000))}
    yield Row("reading: classes that differ", sum(unequal(labels, z[f"{name}_class"]) for name, (_, labels, _) in parts.items()), 0)
    yield Row("reading: boxes", max(apart(yxyx(boxes), z[f"{name}_bbox"]) for name, (boxes, _, _) in parts.items()), 1e-6)
    yield Row("reading: scores", max(apart(scores, z[f"{name}_score"]) for name, (_, _, scores) in parts.items()), 1e-6)
    canvas, worst = z["post_image_size"].tolist(), 0
    for boxes, unpadded, original, want in zip(yxyx(z["dec_a_bbox"]), z["post_unpadded_size"].tolist(), z["post_orig_size"].tolist(), yxyx(z["post_bbox_rescaled"])):
        limit = torch.tensor([original[1], original[0]]*2) # ours end at the image's border
        worst = max(worst, apart(boxes_to_original(boxes, canvas, unpadded, original)/limit, want.minimum(limit)/limit))
    yield Row("boxes on the original image, share of its side", worst, 1e-6)
    for name, want in z.items():
        if not name.startswith("trunc_k"): continue
        k, p = name.removeprefix("trunc_k").split("_p")
        have = truncate_logits(z["trunc_in"], int(k), float(p))
        yield Row(f"truncation, top_k {k}, top_p {p}: tokens that differ", unequal(have.isfinite(), want > -1e8), 0)


def images(root:Path) -> list[Row]:
    z = arrays(root/"preprocess.npz")
    def sample(tag):
        image = tv_tensors.Image(z[f"{tag}_in_uint8"].permute(2, 0, 1))
        height, width = image.shape[-2:]
        return dict(image=image, boxes=as_boxes(yxyx(z[f"{tag}_bbox_in"])*torch.tensor([width, height, width, height]), (height, width)))
    pixels, corners = {}, {}
    for tag in sorted({name.split("_")[1] for name in z if name.startswith("eval_")}):
        canvas = tuple(z[f"eval_{tag}_target"].tolist())
        out = eval_transform(canvas)(sample(f"eval_{tag}"))
        pixels[tag] = apart(pad_image(out["image"], canvas).permute(1, 2, 0), z[f"eval_{tag}_out"])
        boxes = yxyx(normalize_boxes(out["boxes"], canvas))
        corners[tag] = apart(boxes, z[f"eval_{tag}_bbox_out"][:len(boxes)])
    yield Row("evaluation images", max(pixels.values()), 2e-3)
    yield Row("evaluation boxes", max(corners.values()), 1e-6)
    tags = sorted({"_".join(name.split("_")[:2]) for name in z if name.startswith("train_") and name.split("_")[1].isdigit()})
    results = [_augmented(z, tag, sample(tag)) for tag in tags]
    for k, (stage, bar) in enumerate({"training images, same choices": 2e-3, "training boxes, same choices": 1e-5, "training objects kept that differ": 0, "training choices that ours cannot make": 0}.items()):
        yield Row(stage, max(result[k] for result in results), bar)

def _augmented(z, tag, sample): # our transforms with the recorded sizes, places and flips
    canvas, original = tuple(z["train_target"].tolist()), sample["image"].shape[-2:]
    scaled, offset, cut = (tuple(z[f"{tag}_{name}"].tolist()) for name in ("scaled_size", "crop_offset", "crop_size"))
    sample["labels"] = torch.arange(1, len(sample["boxes"]) + 1)
    sample["image"] = TF.to_dtype(sample["image"], torch.float32, scale=True)
    jitter, crop = ScaleJitter(canvas), FixedSizeCrop(canvas)
    choices = [(jitter, dict(size=list(scaled))), (crop, dict(top=offset[0], left=offset[1], height=cut[0], width=cut[1]))]
    for transform, params in choices: sample |= {name: transform.transform(sample[name], params) for name in ("image", "boxes")}
    if z[f"{tag}_flipped"]: sample |= {name: TF.horizontal_flip(sample[name]) for name in ("image", "boxes")}
    real, boxes = ~z[f"{tag}_is_crowd"], TF.clamp_bounding_boxes(sample["boxes"])
    sample = drop_empty_boxes(dict(sample, boxes=tv_tensors.wrap(boxes[real], like=boxes), labels=sample["labels"][real]))
    pixels = apart(pad_image(sample["image"], canvas).permute(1, 2, 0), z[f"{tag}_out"])
    kept = z[f"{tag}_filter_label"]
    if not torch.equal(kept.sort().values, sample["labels"]): return pixels, float("nan"), 1, 0
    boxes = yxyx(normalize_boxes(sample["boxes"], canvas))[kept.argsort().argsort()] # in the recorded order
    scale = min(c/s for c, s in zip(canvas, original))
    sizes = [(n/(s*scale), (n + 1)/(s*scale)) for n, s in zip(scaled, original)] + [(.3, 2.)]
    places = [(o/room, (o + 1)/room) for o, s, c in zip(offset, scaled, canvas) if (room := max(0, s - c))] + [(0., 1.)]
    impossible = sum(max(low for low, _ in ranges) >= min(high for _, high in ranges) for ranges in (sizes, places))
    return pixels, apart(boxes, z[f"{tag}_pad_bbox"]), 0, impossible


def optimization(root:Path) -> list[Row]:
    z = arrays(root/"optim.npz")
    for name, config in {"linear": TrainConfig(lr=3e-5, warmup_steps=20, steps=100), "finetune": TrainConfig(lr=3e-5, warmup_steps=z["lr_finetune_warm_total"][0].item(), steps=z["lr_finetune_warm_total"][1].item())}.items():
        steps = [(min(step, config.steps), rate) for step, rate in zip(z[f"lr_{name}_steps"].tolist(), z[f"lr_{name}"].tolist())] # a run of ours ends with its last update
        yield Row(f"schedule, {name}, share of the peak", max(abs(learning_rate(step, config) - rate) for step, rate in steps)/config.lr, 1e-6)
    names = [name[5:] for name in z if name.startswith("init:")]
    module = torch.nn.ParameterList([z[f"init:{name}"].clone() for name in names])
    config, worst = TrainConfig(weight_decay=.05), 0
    optimizer = make_optimizer(module, config)
    for step, rate in enumerate(z["opt_lrs"].tolist()):
        set_rates(optimizer, step, config)
        for group in optimizer.param_groups: group["lr"] = rate
        for parameter, name in zip(module, names): parameter.grad = z[f"grad{step}:{name}"].clone()
        optimizer.step()
        worst = max(worst, *(apart(parameter.detach(), z[f"adamw:{step}:{name}"]) for parameter, name in zip(module, names)))
    yield Row("AdamW, five updates", worst, 1e-6)
    yield Row("token losses", apart(token_losses(z["loss_logits"], z["loss_target"]), z["loss_xent"]), 1e-6)
    yield Row("GELU", apart(MLP(1, 1)[1](z["gelu_x"]), z["gelu_y"]), 1e-6)
    for name in (name for name in z if name.startswith("pos")):
        *grid, dim = map(int, name.split("_")[1:])
        code = sincos_positions(*(grid if len(grid) == 2 else (1, *grid)), dim)
        yield Row(f"position code, {'×'.join(map(str, grid))} of {dim} channels", apart(code[::ceil(len(code)/len(z[name]))], z[name]), 1e-6) # recorded in steps


def surprise(p:float) -> float: return -log10(max(p, 1e-99)) # 3: one in a thousand

def noise(root:Path) -> list[Row]: # -log10 of the chance that ours are drawn from what was recorded, or from what it was drawn from
    said, g = json.loads((root/"stats.json").read_text()), torch.Generator().manual_seed(0)
    box, many, n = torch.tensor([[.4, .3, .6, .6]]), 20_000, said["noise_boxes"]["n_noise"]
    recorded, tokenizer = said["corruption:rand_n_fake_cls"], BoxTokenizer(900, 1000, 3000)
    read = corrupt_classes(tokenizer.encode(box.repeat(many, 1), torch.full((many,), 57)), tokenizer, g)[4::5]
    for name, token in (("frac_fake_token30", 30), ("frac_equal_real", 157)):
        counts = [[round(recorded[name]*recorded["n"]), round((1 - recorded[name])*recorded["n"])], [(read == token).sum().item(), (read != token).sum().item()]]
        yield Row(f"corruption, {name}: surprise", surprise(stats.fisher_exact(counts).pvalue), 3)
    drawn = read[read != 30].bincount(minlength=1000)
    yield Row("corruption, random classes: surprise", surprise(stats.chisquare(drawn[100:]).pvalue) if drawn[:100].sum() == 0 else float("nan"), 3)
    kinds = torch.stack([noise_boxes(box, n, g)[1].bincount(minlength=3) for _ in range(4000)])
    yield Row("noise, number of duplicates: surprise", surprise(stats.chisquare(kinds[:, 0].bincount(minlength=n + 1)).pvalue), 3)
    bad = kinds[:, 1:].sum(0).tolist() # halves drawn without replacement: closer to one half than a coin would be
    yield Row("noise, shifted against random: surprise", surprise(stats.binomtest(bad[0], sum(bad)).pvalue), 3)
    rates = ((jitter_boxes(box.repeat(many, 1), generator=g) - box)/(box[:, 2:] - box[:, :2]).repeat(1, 2)).flatten().numpy()
    yield Row("duplicates, moves: surprise", surprise(stats.kstest(rates, stats.truncnorm(-2, 2, scale=.05).cdf).pvalue), 3)
    yield Row("duplicates, deviation of the moves", abs(rates.std() - said["noise_boxes"]["jitter_rate_std"]), 3e-4)
    yield Row("duplicates, largest move", abs(np.abs(rates).max() - said["noise_boxes"]["jitter_rate_absmax"]), 1e-4)
    with mock.patch("pix2seq.sequence._around", lambda centers, sizes: torch.cat([centers, sizes], 1)): # before they are cut at the border
        shifted, free = shift_boxes(box.repeat(many, 1), g), random_boxes(many, g)
    yield Row("shifted boxes, sizes", apart(shifted[:, 2:], (box[:, 2:] - box[:, :2]).expand(many, 2)), 1e-6)
    for name, values in (("shifted", shifted[:, :2]), ("random", free[:, :2])):
        yield Row(f"{name} boxes, centres: surprise", surprise(stats.kstest(values.flatten().numpy(), "uniform").pvalue), 3)
    sizes = free[:, 2:].flatten().numpy()
    yield Row("random boxes, sizes: surprise", surprise(stats.kstest(sizes, lambda x: stats.truncnorm(-2, 2, scale=.5).cdf(x)*2 - 1).pvalue), 3)
    yield Row("random boxes, mean size: surprise", surprise(stats.ttest_1samp(sizes, said["noise_boxes"]["random_box_h_mean"]).pvalue), 3)


def full_size(root:Path) -> list[Row]: # the published shapes, without the numbers
    presets = {"R50": "resnet50", "R101": "resnet101", "R50-C4": "resnet50-c4", "R50-DC5": "resnet50-dc5", "ViT-B": "vit-b", "ViT-L": "vit-l"}
    def blank(tag, **fields):
        with torch.device("meta"): return Pix2Seq(Pix2SeqConfig.from_name(presets[tag], **fields))
    for row in json.loads((root/"param_counts.json").read_text()):
        tag = next(tag for tag in sorted(presets, key=len, reverse=True) if row["tag"].startswith(tag))
        model = blank(tag, vocab_size=row["cfg"]["vocab_size"], image_size=tuple(row["image_size"]))
        trainable, kept = (sum(value.numel() for name, value in values if not name.endswith("num_batches_tracked")) for values in (model.named_parameters(), model.state_dict().items()))
        yield Row(f"{row['tag']}: parameters that differ", abs(trainable - row["trainable"]) + abs(kept - row["total_with_bn_stats"]), 0)
    for file in sorted((root/"keys").glob("*.tsv")):
        keys = {key: tuple(map(int, filter(None, shape.split(",")))) for key, shape, *_ in (line.split("\t") for line in file.read_text().splitlines())}
        own = {name: tuple(value.shape) for name, value in blank(file.stem.removeprefix("keys_full_")).state_dict().items() if not name.endswith("num_batches_tracked")}
        ours = {our_name(key): as_weight(our_name(key), np.broadcast_to(np.float32(0), shape)).shape for key, shape in keys.items() if our_name(key)}
        yield Row(f"{file.stem.removeprefix('keys_full_')}: keys without a place, places without a key", len(set(ours.items()) ^ set(own.items())) + len(keys) - len(ours), 0)


def training_checkpoint(root:Path) -> list[Row]: # written by the training program itself
    checkpoint = TensorFlowCheckpoint(root/"written_by_training")
    model = Pix2Seq.from_official(root/"written_by_training", num_classes=900)
    own = {key: our_name(key) for key in checkpoint.entries if not is_training_state(key)}
    yield Row("written by training: variables", max(apart(model.state_dict()[name], torch.from_numpy(as_weight(name, checkpoint[key]).copy())) for key, name in own.items()), 0)


OF_A_MODEL = [weights, forward, decoding, losses, training]
OF_ALL = {"seq.npz": sequences, "preprocess.npz": images, "optim.npz": optimization, "stats.json": noise, "param_counts.json": full_size, "written_by_training": training_checkpoint}

def models(root:Path) -> list[Path]: return sorted(path.parent for path in root.glob("*/io.npz"))


def main(root:Path):
    columns = {folder.name: {row.stage: row for compare in OF_A_MODEL for row in compare(Fixture(folder))} for folder in models(root)}
    print("|", " | ".join(["stage", "bar", *columns]), "|\n|" + "---|"*(len(columns) + 2))
    for stage in dict.fromkeys(stage for column in columns.values() for stage in column):
        rows = [column.get(stage) for column in columns.values()]
        print("|", " | ".join([stage, " or ".join(f"{bar:g}" for bar in sorted({row.bar for row in rows if row})), *(f"{row.difference:.1e}".replace("0.0e+00", "0") + ("" if row.holds else " !") if row else "" for row in rows)]), "|")
    rows = [row for name, compare in OF_ALL.items() if (root/name).exists() for row in compare(root)]
    print("\n| stage | bar | difference |\n|---|---|---|")
    for row in rows: print(f"| {row.stage} | {row.bar:g} | {row.difference:.1e}".replace("0.0e+00", "0") + ("" if row.holds else " !") + " |")
    over = sum(not row.holds for row in [*rows, *(row for column in columns.values() for row in column.values())])
    sys.exit(f"\n{over} differences are larger than they may be" if over else "")


if __name__ == "__main__": main(Path(sys.argv[1]))
