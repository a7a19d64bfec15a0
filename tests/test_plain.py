"""What a user has: the wheel without extras, in an environment that `.ci/plain` makes.

Every module, every command, and the Python blocks and shell lines of README and chapters."""
import json
import os
import re
import shlex
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(os.environ.get("PIX2SEQ_PLAIN", "no environment"))
if not BIN.is_dir(): pytest.skip("`.ci/plain` makes the environment", allow_module_level=True)

config = ConfigParser()
config.read(ROOT/"settings.ini", encoding="utf-8")
SCRIPTS = [line.split("=")[0] for line in config["DEFAULT"]["console_scripts"].split()]
MODULES = sorted(path.stem for path in (ROOT/"pix2seq").glob("*.py") if path.stem != "__init__")
PAGES = [ROOT/"README.md", *sorted((ROOT/"nbs").rglob("*.ipynb"))]


def text_of(page:Path) -> str: # prose, and of code cells what is given to the shell
    "What a page tells people to do."
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md": return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    prose = [text for kind, text in cells if kind == "markdown"]
    shell = [line[1:] for kind, text in cells if kind == "code"
             for line in text.splitlines() if line.startswith("!")]
    return "\n".join(prose + [f"```bash\n{line}\n```" for line in shell])


def blocks(page:Path, language:str) -> list[str]:
    "The fenced blocks of a language."
    return re.findall(rf"^```{language} *\n(.*?)^```", text_of(page), re.M | re.S)


def called(line:str) -> list[tuple[str,list[str]]]: # pairs of a command and its words
    "Our commands in a shell line, also behind a launcher."
    found = []
    for part in re.split(r"&&|[|;]", line.split(" #")[0]):
        words = shlex.split(part)
        for at, word in enumerate(words):
            name, module = word.rsplit("/")[-1], word == "-m" and words[at + 1]
            if name in SCRIPTS: found.append((name.removeprefix("pix2seq_"), words[at + 1:]))
            elif module == "pix2seq.commands": found.append((words[at + 2], words[at + 3:]))
            elif module and module.startswith("pix2seq."): found.append((module, words[at + 2:]))
            else: continue
            break
    return found


def shell_lines(page:Path) -> list[str]:
    "Of fenced blocks, and inline code that begins with a command and has options."
    fenced = "\n".join(blocks(page, "(?:bash|sh|shell|console)")).replace("\\\n", " ")
    first = dict(re.findall(r"for (\w+) in ([^\s;]+)", fenced))      # a loop's line is tried once
    fenced = re.sub(r"\$(\w+)", lambda name: first.get(name[1], name[0]), fenced)
    inline = re.findall(r"(?<!`)`(?:[A-Z_]+=\S+ )?(pix2seq_[a-z]+ [^`\n]+)`", text_of(page))
    return [line for line in fenced.splitlines() if line.strip()] + inline


LINES = [(page, line) for page in PAGES for line in shell_lines(page) if called(line)]
PYTHON = [(page, code) for page in (ROOT/"README.md", ROOT/"nbs/index.ipynb")
          for code in blocks(page, "python")]


def call(folder:Path, *words, status:int=0, **env) -> str: # what it printed
    "Run a program of the environment in a folder, as a user would."
    settings = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **env}
    for name in ("PYTHONPATH", "PYTHONHOME"): settings.pop(name, None)
    program = [str(BIN/words[0]), *map(str, words[1:])]
    done = subprocess.run(program, cwd=folder, env=settings, text=True, timeout=600,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = f"{shlex.join(program)} ended with {done.returncode}:\n{done.stdout}"
    assert done.returncode == status and "Traceback" not in done.stdout, said
    return done.stdout


# ---- the environment

def test_no_extras():
    "The development environment must not be what is tested."
    code = ("from importlib.metadata import distributions; "
            "print(*(d.metadata['Name'].lower() for d in distributions()))")
    installed = set(call(ROOT.parent, "python", "-c", code).split())
    assert "pix2seq" in installed
    assert not installed & {"nbdev", "ipython", "ipywidgets", "pytest", "scikit-learn", "onnx"}


ALONE = """
import os, sys, torch, torchvision
for module in sys.argv[1:]:
    if os.fork() == 0:
        status = 0
        try: __import__(f"pix2seq.{module}")
        except BaseException as e: status = 1; print(repr(e), flush=True)
        os._exit(status)
    if os.wait()[1]: print("failed:", module, flush=True)
""" # each in a process of its own, in which only torch is there already: that takes longest

@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    "What was said when all modules were imported."
    return call(tmp_path_factory.mktemp("imported"), "python", "-c", ALONE, *MODULES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("module", MODULES)
def test_module_is_imported(module, imported):
    assert f"failed: {module}\n" not in imported, imported


# ---- the pages

NAMES = [f"{page.stem}-{i}" for i, (page, _) in enumerate(LINES)]


PARSE = """
import json, sys
from pix2seq.command_line import parse
from pix2seq.commands import COMMANDS
for at, calls in enumerate(json.loads(sys.argv[1])):
    for name, words in calls:
        try: parse(COMMANDS[name], words)
        except SystemExit as end:
            if end.code: print("refused:", at)
"""

@pytest.fixture(scope="module")
def parsed(tmp_path_factory):
    "What was said when the commands' own parsers read all lines."
    calls = json.dumps([called(line) for _, line in LINES])
    return call(tmp_path_factory.mktemp("parsed"), "python", "-c", PARSE, calls)


@pytest.mark.parametrize("at", range(len(LINES)), ids=NAMES)
def test_shell_line_is_understood(at, parsed):
    assert f"refused: {at}\n" not in parsed, f"{LINES[at][1]}\n{parsed}"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    "A folder with a scene, the digits as files, and a run of a few updates."
    folder = tmp_path_factory.mktemp("work")
    call(folder, "pix2seq_digits", "digits", "--train", 12, "--val", 6)
    (folder/"scene.png").write_bytes((folder/"digits/val/000000.jpg").read_bytes())
    return folder


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    "What stands in for the published bucket: environment variables."
    from published import serving, write_published

    from pix2seq.official import OFFICIAL
    root = tmp_path_factory.mktemp("bucket")
    write_published(root/OFFICIAL["coco-resnet50-640"])
    with serving(root) as address:
        yield dict(PIX2SEQ_BUCKET=address, PIX2SEQ_CACHE=str(root/"cache"))


@pytest.mark.parametrize("page, code", PYTHON, ids=[page.name for page, _ in PYTHON])
def test_python_block(page, code, work, bucket):
    call(work, "python", "-c", code, MPLBACKEND="agg", **bucket)


# ---- the commands

@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script, tmp_path):
    assert call(tmp_path, script, "--help").startswith(f"usage: {script}")
    assert call(tmp_path, script, "--version").startswith("pix2seq ")


@pytest.mark.parametrize("module, heavy", [
    ("commands", ["torch", "numpy", "matplotlib"]),
    ("detector", ["matplotlib.pyplot", "accelerate", "pycocotools", "IPython"]),
])
def test_imports_what_it_needs(module, heavy, tmp_path):
    code = f"import sys, pix2seq.{module}; print([m for m in {heavy!r} if m in sys.modules])"
    assert call(tmp_path, "python", "-c", code).strip() == "[]"


@pytest.fixture(scope="module")
def run(work):
    "The main job in a short form: the README's command with fewer updates."
    said = call(work, "pix2seq_train", "--steps", 4, "--eval-images", 8, "--workers", 0)
    assert "on 8 validation images" in said
    return work/"runs/digits", said


def test_main_job_and_what_it_recommends(run, work):
    folder, said = run
    [line] = re.findall(r"^Next: (pix2seq_predict IMAGE .*)$", said, re.M)
    call(work, *line.replace("IMAGE", "scene.png").split())
    assert isinstance(json.loads((work/"found/detections.json").read_text()), list)
    assert (folder/"checkpoint/model.safetensors").is_file()
    page = (folder/"report.html").read_text(encoding="utf-8")
    assert "The worst images" in page and "http" not in page
    assert json.loads((folder/"best/figures.json").read_text())["step"] == 4


def test_data(work):
    said = call(work, "pix2seq_data", "digits", "--model", "max_instances=2")
    assert "digits/train, " in said and "suggested, and used unless you say otherwise" in said
    assert "a model without a mistake would reach AP" in said and "\nNext: pix2seq_train" in said


def test_train_on_a_folder(work):
    words = "--data digits --out runs/mine --epochs 1 --batch_size 4 --eval_images 6 --workers 0"
    said = call(work, "pix2seq_train", *words.split())
    assert "step 3: AP" in said and "on 6 validation images" in said
    assert "tensors of small" in said                        # what it starts from by itself


def test_config_of_a_run(run, work):
    file = run[0]/"config.json"
    said = call(work, "pix2seq_train", "--config", file, "--out", "runs/again", "--steps", 2)
    assert "step 2: AP" in said


def test_eval(work):
    words = "pix2seq_eval --data digits --out-detections results.json --out figures.json"
    said = call(work, *words.split())
    figures = json.loads((work/"figures.json").read_text())
    assert "6 images" in said and 0.5 < figures["AP"] <= 1
    call(work, *"pix2seq_eval --data digits --detections results.json --out again.json".split())
    assert json.loads((work/"again.json").read_text()) == figures


def test_predict(work):
    for i, image in enumerate(sorted((work/"digits/val").glob("*.jpg"))):
        place = work/"photos"/("night" if i%2 else "")/image.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(image.read_bytes())
    said = call(work, *"pix2seq_predict photos --out seen --device cpu".split())
    assert "6 " in said and len(list((work/"seen").rglob("*.png"))) == 6
    assert (work/"seen/night/000001.png").is_file()
    for kind in ("json", "csv"):
        assert "night/000001.jpg" in (work/f"seen/detections.{kind}").read_text()


FOUND = "from pix2seq.detector import Detector as D; d = D.from_pretrained('digits'); "

@pytest.mark.parametrize("code, sentence", [
    ("d.frames('clip.mp4')", "pip install 'pix2seq[video]'"),
    ("d('scene.png')[0].to_pandas()", "pip install pandas"),
    ("d('scene.png')[0].to_supervision()", "pip install supervision")])
def test_optional_packages_are_named(work, code, sentence):
    said = call(work, "python", "-c", f"{FOUND}\ntry: {code}\nexcept ImportError as e: print(e)")
    assert sentence in said and said.count("\n") == 1


def test_results_are_saved(work):
    for end in ("png", "jpg", "csv", "json"):
        call(work, "python", "-c", f"{FOUND}d('scene.png')[0].save('mine/found.{end}')")
        assert (work/f"mine/found.{end}").stat().st_size


def test_published_weights(work, bucket):
    call(work, *"pix2seq_convert coco-resnet50-640 --out converted".split(), **bucket)
    assert json.loads((work/"converted/config.json").read_text())["num_classes"] == 91
    for weights in ("converted", "coco-resnet50-640"):
        call(work, "pix2seq_predict", "scene.png", "--weights", weights, "--out", f"by-{weights}",
             "--max-objects", 2, **bucket)


def test_published_weights_as_a_start(work, bucket):
    words = ("--weights coco-resnet50-640 --data digits --model image_size=64 --steps 2 "
             "--batch-size 2 --eval-images 2 --workers 0 --out from-published")
    said = call(work, "pix2seq_train", *words.split(), **bucket)
    kept = "kept [0-9]+ tensors of coco-resnet50-640; 1 of 10 classes by name, 9 new"
    assert re.search(kept, said)
    assert (work/"from-published/checkpoint/model.safetensors").is_file()


def test_export(work):
    said = call(work, *"pix2seq_export --formats torch --out exported".split())
    assert "reads the same tokens" in said
    assert json.loads((work/"exported/config.json").read_text())["num_classes"] == 10
    said = call(work, *"pix2seq_export --out nothing".split(), status=1)
    assert "pip install 'pix2seq[export]'" in said and said.count("\n") == 1


def test_bench(work):
    words = "plain engine --preset digits --size 96 --batches 1 --objects 2 --rounds 1"
    assert "engine" in call(work, "pix2seq_bench", *words.split())


def test_ablate(work):
    words = "nucleus --seeds 1 --jobs 2 --eval-images 2 --out ablation".split()
    said = call(work, "pix2seq_ablate", *words)
    assert "top_p=0.4-seed0: AP" in said and "0.9" in said and "ablation holds nucleus.json" in said
    assert (work/"ablation/nucleus.png").is_file()
    again = call(work, "pix2seq_ablate", *words)
    assert "top_p=0.4-seed0" not in again and "top-p; 1 seed" in again


def test_coco(work):
    said = call(work, *"pix2seq_coco --root coco --check".split(), status=1)
    assert said.startswith("pix2seq_coco: 0 of 2 files are there of coco/annotations")


@pytest.mark.parametrize("words, sentence", [
    ("pix2seq_train --stpes 4", "near it: --steps"),
    ("pix2seq_train --model decoder_layer=2", "near it: decoder_layers"),
    ("pix2seq_predict nothing.png", "nothing.png does not exist"),
    ("pix2seq_eval --weights dgits", "digits"),
    ("pix2seq_data dgits", "dgits is not a folder"),
    ("pix2seq_train --time soon", "such as 90s, 20m or 1.5h, not 'soon'"),
    ("pix2seq_eval --dtype int4", "invalid choice"),
])
def test_refused_in_a_sentence(words, sentence, work):
    done = subprocess.run([str(BIN/words.split()[0]), *words.split()[1:]], cwd=work, text=True,
                          capture_output=True, timeout=60)
    assert done.returncode in (1, 2) and sentence in done.stderr and "Traceback" not in done.stderr
