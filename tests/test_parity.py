"Numbers recorded from the published implementation, compared with ours stage by stage; skipped where `../shared/parity` is absent."
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from pix2seq.layers import sincos_positions
from pix2seq.model import Pix2Seq, Pix2SeqConfig

ROOT = Path(__file__).parent.parent.parent/"shared/parity"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="no recorded numbers in ../shared/parity")
each_fixture = pytest.mark.parametrize("tag", ["tiny_r50", "tiny_r50_c4", "tiny_vit"])

def config_of(c): # the recorded config as ours
    m, t = c["model"], c["task"]
    form = m["resnet_variant"]
    depths = (3, 4, 6) if form == "c4" else (3, 4, 6, 3)
    return Pix2SeqConfig(image_size=tuple(m["image_size"]), backbone="vit" if form == "c1" else "resnet", resnet_depths=depths,
        resnet_width=round(64*m.get("resnet_width_multiplier", 1)), resnet_dilate_last=form == "dc5", patch_size=m["patch_size"],
        encoder_layers=m["num_encoder_layers"], encoder_dim=m["dim_att"], encoder_mlp_dim=m["dim_mlp"], encoder_heads=m["num_heads"],
        decoder_layers=m["num_decoder_layers"], decoder_dim=m["dim_att_dec"], decoder_mlp_dim=m["dim_mlp_dec"], decoder_heads=m["num_heads_dec"],
        max_seq_len=m["max_seq_len"], max_instances=t["max_instances_per_image"], num_classes=900, vocab_size=m["vocab_size"],
        quantization_bins=t["quantization_bins"])

RENAMES = [ # published key -> our name
    (r"^model/encoder/resnet/initial_conv_relu_max_pool/0/conv2d/kernel", "encoder.backbone.conv1.weight"),
    (r"^model/encoder/resnet/initial_conv_relu_max_pool/2/bn/", "encoder.backbone.bn1."),
    (r"^model/encoder/resnet/block_groups/(\d)/layers/(\d+)/conv_relu_dropblock_layers/(\d)/(conv2d|bn)/",
     lambda m: f"encoder.backbone.layer{int(m[1]) + 1}.{m[2]}.{m[4].removesuffix('2d')}{int(m[3])//3 + 1}."),
    (r"^model/encoder/resnet/block_groups/(\d)/layers/(\d+)/projection_layers/(\d)/(conv2d|bn)/",
     lambda m: f"encoder.backbone.layer{int(m[1]) + 1}.{m[2]}.downsample.{m[3]}."),
    (r"^model/encoder/stem_projection/", "encoder.stem.1."), (r"^model/encoder/stem_conv/", "encoder.backbone."),
    (r"^model/encoder/stem_ln/", "encoder.stem_norm."), (r"^model/encoder/output_ln/", "encoder.norm."),
    (r"^model/encoder/transformer_encoder/enc_layers/(\d+)/", r"encoder.blocks.\1."),
    (r"^model/decoder/decoder/dec_layers/(\d+)/", r"decoder.\1."), (r"^model/decoder/output_ln/", "norm."),
    (r"^model/proj/", "proj."), (r"^model/proj_ln/", "proj_norm."),
    (r"^model/proj_mlp/layernorms/0/", "proj_mlp_norm."), (r"^model/proj_mlp/mlp_layers/0/", "proj_mlp."),
    (r"^model/decoder/ar_decoder.Stoken_embedding", "token_embedding"), (r"^model/decoder/ar_decoder.Sseq_pos_embedding", "position_embedding"),
    (r"^model/decoder/ar_decoder.Soutp_bias", "output_bias"),
    (r"(blocks\.\d+\.)mha_ln/", r"\1norm1."), (r"(blocks\.\d+\.)mlp/layernorms/0/", r"\1norm2."), (r"(blocks\.\d+\.)mha/", r"\1attention."),
    (r"(decoder\.\d+\.)self_ln/", r"\1norm1."), (r"(decoder\.\d+\.)cross_ln/", r"\1norm2."), (r"(decoder\.\d+\.)mlp/layernorms/0/", r"\1norm3."),
    (r"(decoder\.\d+\.)(self|cross)_mha/", r"\1\2_attention."), (r"mlp/mlp_layers/0/", "mlp."), (r"_(query|key|value|output)_dense/", r"\1."),
    (r"dense1/", "0."), (r"dense2/", "3."), (r"gamma$", "weight"), (r"beta$", "bias"), (r"kernel$", "weight"),
    (r"moving_mean$", "running_mean"), (r"moving_variance$", "running_var"),
]

def our_name(key):
    key = key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
    for pattern, name in RENAMES: key = re.sub(pattern, name, key)
    return key

def our_value(name, value):
    if ".query." in name or ".key." in name or ".value." in name:
        value = value.reshape(value.shape[0], -1) if name.endswith("weight") else value.reshape(-1)
    if ".output." in name and name.endswith("weight"): value = value.reshape(-1, value.shape[-1])
    if name.endswith("weight"): value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T if value.ndim == 2 else value
    return torch.from_numpy(np.ascontiguousarray(value))

def load(folder):
    model = Pix2Seq(config_of(json.loads((folder/"config.json").read_text()))).eval()
    variables = np.load(folder/"variables.npz")
    own = model.state_dict()
    weights = {}
    for row in json.loads((folder/"name_map.json").read_text()):
        name = our_name(row["key"])
        assert name not in weights, name
        weights[name] = our_value(name, variables[row["name"]])
    missing = [k for k in own if k not in weights and not k.endswith("num_batches_tracked")]
    extra = [k for k in weights if k not in own]
    assert not missing and not extra, (missing, extra)
    model.load_state_dict(weights, strict=False)
    return model

def nhwc(x): return x.permute(0, 2, 3, 1)

@torch.no_grad()
def compare(tag):
    folder = ROOT/tag
    model = load(folder)
    io = {k: torch.from_numpy(np.array(v)) for k, v in np.load(folder/"io.npz").items()}
    seen, worst = {}, {}
    def keep(name, convert=lambda x: x): return lambda module, args, out: seen.__setitem__(name, convert(out))
    def keep_input(name): return lambda module, args: seen.__setitem__(name, args[0])
    e = model.encoder
    if model.config.backbone == "resnet":
        e.backbone.conv1.register_forward_hook(keep("resnet_stem_0_stem_conv2d_fixed_padding", nhwc))
        e.backbone.conv1.register_forward_hook(keep("resnet_stem_1_initial_conv", nhwc))
        e.backbone.bn1.register_forward_hook(keep("resnet_stem_2_stem_bn_relu", lambda x: nhwc(F.relu(x))))
        e.backbone.layer1.register_forward_pre_hook(lambda m, a: seen.update({k: nhwc(a[0]) for k in ("resnet_stem_3_stem_maxpooling", "resnet_stem_4_initial_max_pool")}))
        for g in range(e.backbone.groups): getattr(e.backbone, f"layer{g + 1}").register_forward_hook(keep(f"resnet_c{g + 2}", nhwc))
    else: e.backbone.register_forward_hook(keep("stem_conv", nhwc))
    e.stem_norm.register_forward_hook(keep("stem_tokens"))
    e.blocks[0].register_forward_pre_hook(keep_input("encoder_x0"))
    for i, block in enumerate(e.blocks): block.register_forward_hook(keep(f"encoder_x{i + 1}"))
    e.norm.register_forward_hook(keep("encoder_out"))
    model.proj_norm.register_forward_hook(keep("proj_out"))
    model.decoder[0].register_forward_pre_hook(keep_input("dec_x0"))
    for i, block in enumerate(model.decoder): block.register_forward_hook(keep(f"dec_x{i + 1}"))
    images = io["images"].permute(0, 3, 1, 2)
    seen["tf_logits"] = model(images, io["input_seq"])
    for i in range(len(model.decoder)): seen[f"dec_cache{i}"] = model.decoder[i].norm1(seen[f"dec_x{i}"])
    recorded = dict(seen)
    recorded["encoded"] = memory = model.encode(images)
    grid = e.backbone(images).shape[-2:]
    recorded["encoder_vis_pos_emb"] = sincos_positions(*grid, model.config.encoder_dim)
    recorded["proj_vis_pos_emb"] = sincos_positions(*grid, model.config.decoder_dim)
    recorded["multi_logits"] = model(images, io["multi_input_seq"]).flatten(0, 1)
    recorded["token_loss"] = F.cross_entropy(recorded["tf_logits"].flatten(0, 1), io["target_seq"].flatten(), reduction="none").view(2, -1)
    for name, value in recorded.items():
        if name not in io: continue
        assert value.shape == io[name].shape, (name, value.shape, io[name].shape)
        worst[name] = (value - io[name]).abs().max().item()
    for prefix, prompt in (("", "prompt"), ("long_", "long_prompt")):
        want = io[prefix + "infer_seq"]
        tokens, logits = greedy(model, memory, io[prompt], want.shape[1])
        assert torch.equal(tokens, want), f"{prefix}infer_seq differs"
        worst[prefix + "infer_logits"] = (logits - io[prefix + "infer_logits"]).abs().max().item()
    want = io["infer_seq_num_samples2"]
    twice = len(want)//len(memory)
    tokens, _ = greedy(model, memory, io["prompt"].repeat_interleave(twice, 0), want.shape[1])
    assert torch.equal(tokens, want), "two sequences for each image differ"
    return worst

def greedy(model, memory, prompt, steps): # the prompt at once, then one token at a time, with the cache
    memory, cache = model.prepare(memory), model.new_cache(len(prompt), model.config.max_seq_len)
    tokens, logits, read = [], [], prompt
    for _ in range(steps):
        out = model.decode(read, memory, cache)[:, -1]
        logits.append(out); tokens.append(out.argmax(-1))
        read = tokens[-1][:, None]
    return torch.stack(tokens, 1), torch.stack(logits, 1)

def rows(tag): return json.loads((ROOT/tag/"name_map.json").read_text())

def loss_of(model, images, io):
    logits = model(images, io["input_seq"])
    losses = F.cross_entropy(logits.flatten(0, 1), io["target_seq"].flatten(), reduction="none").view(2, -1)
    return logits, (losses*io["token_weights"]).sum()/(io["token_weights"].sum() + 1e-9)

def compare_gradients(tag): # evaluation mode, and training mode with all drop rates 0
    model = load(ROOT/tag)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout): module.p = 0.
        if isinstance(module, StochasticDepth): module.p = 0.
    io = {k: torch.from_numpy(np.array(v)) for k, v in np.load(ROOT/tag/"io.npz").items()}
    images, params = io["images"].permute(0, 3, 1, 2), dict(model.named_parameters())
    recorded, trained = np.load(ROOT/tag/"grads_eval.npz"), np.load(ROOT/tag/"train.npz")
    _, loss = loss_of(model, images, io)
    loss.backward()
    worst = {}
    for row in rows(tag):
        name = our_name(row["key"])
        if not row["trainable"] or name.endswith(".key.bias"): continue
        want = our_value(name, recorded[row["name"]])
        worst[name] = ((params[name].grad - want).abs().max()/(want.abs().max() + 1e-3)).item()
    assert abs(loss.item() - io["loss"].item()) < 1e-5
    logits, _ = loss_of(model.train(), images, io)
    worst["logits in training mode"] = (logits - torch.from_numpy(trained["logits_train"])).abs().max().item()
    return worst

@each_fixture
def test_forward_and_greedy_decoding(tag):
    worst = compare(tag)
    assert max(worst.values()) <= 5e-5, max(worst.items(), key=lambda kv: kv[1])

@each_fixture
def test_gradients(tag):
    worst = compare_gradients(tag)
    assert worst.pop("logits in training mode") <= 5e-3
    assert max(worst.values()) <= 1e-4, max(worst.items(), key=lambda kv: kv[1])

@pytest.mark.parametrize("name, rows, cols, dim, step", [("pos1d_512_256", 1, 512, 256, 37), ("pos2d_20_20_256", 20, 20, 256, 10),
    ("pos2d_42_42_256", 42, 42, 256, 44), ("pos2d_40_40_768", 40, 40, 768, 40), ("pos2d_3_4_32", 3, 4, 32, 1)])
def test_positions(name, rows, cols, dim, step):
    recorded = torch.from_numpy(np.load(ROOT/"optim.npz")[name])
    assert (sincos_positions(rows, cols, dim)[::step] - recorded).abs().max() <= 1e-5
