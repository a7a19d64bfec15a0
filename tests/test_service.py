"""The exported service, run in an environment without PyTorch that `.ci/service` makes."""
import io
import json
import os
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest

BIN = Path(os.environ.get("PIX2SEQ_SERVICE", "no environment"))
if not BIN.is_dir(): pytest.skip("`.ci/service` makes the environment", allow_module_level=True)

from PIL import Image

from pix2seq.detector import Detector
from pix2seq.digits import DigitScenes
from pix2seq.export import export_model

SCENES = [Image.fromarray(DigitScenes("val")[i]["image"].movedim(0, -1).numpy()) for i in range(6)]


def python(*words) -> subprocess.Popen:
    "Python of the other environment, which sees nothing of this one."
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.Popen([str(BIN/"python"), *map(str, words)], env=env, cwd=BIN, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def packed(image:Image.Image, kind:str="PNG", **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


@pytest.fixture(scope="module")
def detector() -> Detector:
    "It takes the most likely token, as the service does."
    return Detector.from_pretrained("digits", "cpu", temperature=0)


@pytest.fixture(scope="module")
def ask(detector, tmp_path_factory):
    "A function from the body of a request to the status and the content of its answer."
    folder = tmp_path_factory.mktemp("exported")
    export_model(detector.model, folder, ("onnx",))
    with python(folder/"serve.py", 0) as service:
        address = service.stdout.readline().strip().removeprefix("http://")
        assert address, service.stderr.read()
        def ask(body:bytes, **headers) -> tuple:
            connection = HTTPConnection(address, timeout=30)
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        yield ask
        service.terminate()


@pytest.mark.parametrize("package", ["torch", "torchvision", "pix2seq"])
def test_environment_is_small(package):
    with python("-c", f"import {package}") as done: said = done.communicate(timeout=60)[1]
    assert f"No module named '{package}'" in said


def sure(rows:list[dict]) -> list[dict]:
    """What is without doubt no noise, in an order that does not depend on the last digits of
    scores. Near-ties between two edges may fall otherwise, and with them a doubtful object."""
    return sorted((row for row in rows if row["score"] > .7), key=lambda row: sum(row["box"]))


@pytest.mark.parametrize("size", [(96, 96), (240, 200), (60, 80), (50, 300)])
def test_service_finds_what_the_detector_finds(ask, detector, size):
    for scene in SCENES:
        image = scene.resize(size)
        [expected], (status, found) = detector(image), ask(packed(image))
        columns = expected.classes, expected["scores"].tolist(), expected["boxes"].tolist()
        rows = [dict(zip(("class", "score", "box"), row)) for row in zip(*columns)]
        assert status == 200 and len(sure(found)) == len(sure(rows))
        for ours, theirs in zip(sure(rows), sure(found)):
            assert ours["class"] == theirs["class"]
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-2)
            assert ours["box"] == pytest.approx(theirs["box"], abs=1.1*max(size)/96)  # a bin


def test_images_of_other_kinds(ask, detector):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = packed(SCENES[0].rotate(90, expand=True), exif=exif)
    for body in (turned, packed(SCENES[0].convert("RGBA")), packed(SCENES[0], "BMP")):
        assert ask(body) == ask(packed(SCENES[0]))
    grey = SCENES[0].convert("L")
    [expected] = detector(grey)
    expected = sorted(expected.above(.7).classes)
    assert sorted(row["class"] for row in sure(ask(packed(grey))[1])) == expected


@pytest.mark.parametrize("body, headers", [
    (b"no image", {}), (b"", {}), (packed(SCENES[0])[:500], {}), (b"", {"Content-Length": "-5"}),
    (b"", {"Content-Length": "many"})])
def test_bad_requests_get_a_sentence(ask, body, headers):
    status, answer = ask(body, **headers)
    assert status == 400 and answer["error"] and "\n" not in answer["error"]
    assert ask(packed(SCENES[1]))[0] == 200
