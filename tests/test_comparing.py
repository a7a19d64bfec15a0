"Baselines and rivals on the command line: the same road as our own models."
import json

import pytest
from safetensors.torch import save_file

from pix2seq import baselines, rivals
from pix2seq.commands import main
from pix2seq.digits import DigitScenes, write_digits
from pix2seq.encoder import ResNet
from pix2seq.evaluation import evaluate


@pytest.fixture
def coco_digits(tmp_path):
    "Digits whose classes have ids and names of COCO."
    write_digits(tmp_path/"data", train=1, val=3)
    file = tmp_path/"data"/"annotations"/"instances_val.json"
    content = json.loads(file.read_text())
    names = baselines.COCO_CLASSES.class_names
    content["categories"] = [dict(id=k + 1, name=names[k]) for k in range(10)]
    file.write_text(json.dumps(content))
    return tmp_path/"data"


def test_a_baseline_is_scored_like_our_model(coco_digits, tmp_path, monkeypatch, capsys):
    "With random weights that prefer the first ten classes."
    def load(name, original=baselines.load_baseline):
        model = original(name, "random", (64, 64))
        model.model.class_labels_classifier.bias.data[1:11] = 9.
        return model
    monkeypatch.setattr(baselines, "load_baseline", load)
    out = tmp_path/"found.json"
    words = ["--data", coco_digits, "--out-detections", out, "--device", "cpu"]
    assert main(["eval", "--weights", "detr-r50", *map(str, words)]) == 0, capsys.readouterr().err
    rows, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert "3 images" in printed and "AR100" in printed
    assert len({row["image_id"] for row in rows}) == 3
    assert {row["category_id"] for row in rows} <= set(range(1, 11))


def test_a_missing_extra_is_named(coco_digits, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    assert main(["eval", "--weights", "detr-r50", "--data", str(coco_digits)]) == 1
    assert "pip install 'pix2seq[bench]'" in capsys.readouterr().err


def test_a_comparison_is_made_once(tmp_path, monkeypatch, capsys):
    "A few updates of one rival from given first weights; the second call trains nothing."
    save_file(ResNet((2, 3), 32).state_dict(), tmp_path/"backbone.safetensors")
    words = ["compare", "faster-rcnn", "--minutes", ".001", "--backbone",
             str(tmp_path/"backbone.safetensors"), "--batch-size", "2", "--eval-images", "3",
             "--workers", "0", "--out", str(tmp_path/"out")]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "faster-rcnn" in first and (tmp_path/"out"/"comparison.png").is_file()
    monkeypatch.setattr(rivals.RivalTrainer, "update", None)
    assert main(words) == 0
    assert "finished before" in capsys.readouterr().out


def test_a_rival_is_evaluated_in_the_image_s_own_pixels():
    "Scenes twice as large as the canvas."
    scenes = DigitScenes("val", 2, 192)
    shape = rivals.Pix2SeqConfig.from_name("digits")
    model = rivals.rival("faster-rcnn-fpn", shape, DigitScenes("train", 50), 1_200_000)
    assert evaluate(model, scenes, 2)["AR100"] >= 0
    assert max(objects["boxes"].max() for objects in model.detect([scenes[0]["image"]])) > 96
