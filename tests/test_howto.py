"""The how-to pages and the tutorial about one's own data: every line of shell, and of Python on the
how-to pages, verbatim, in an empty folder.

With `.ci/plain` from the wheel, else from this checkout."""
import json
import os
import re
import signal
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT/"nbs/howto").glob("[!_.]*.ipynb"))
NEEDS = {"deploy": "onnxruntime"}    # packages that a page asks for, and the wheel has not
TUTORIAL = ROOT/"nbs/tutorials/custom_data.ipynb"
SEARCHED = ("webcam", "fine-tune", "gpu memory", "my own data", "coco's json format", "onnx")

config = ConfigParser()
config.read(ROOT/"settings.ini", encoding="utf-8")
RUNNING = []                         # processes of the page that is tested
COMMANDS = [line.split("=")[0] for line in config["DEFAULT"]["console_scripts"].split()]


def prose(page:Path) -> str:
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def blocks(page:Path) -> list[tuple[str,str]]:
    "Language and lines of what a reader runs; a webcam is not there."
    found = re.findall(r"^```(bash|python)\n(.*?)^```", prose(page), re.M | re.S)
    return [(language, lines) for language, lines in found if "frames(0" not in lines]


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    "The folder of `python` and our commands."
    if plain := os.environ.get("PIX2SEQ_PLAIN"): return Path(plain)
    folder = tmp_path_factory.mktemp("bin")
    calls = {name: f"-m pix2seq.commands {name.removeprefix('pix2seq_')}" for name in COMMANDS}
    for name, call in (calls | dict(python="")).items():
        (folder/name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        (folder/name).chmod(0o755)
    return folder


def run(words:list[str], folder:Path, programs:Path) -> tuple[int,str]:
    "The exit status and what was printed; what still runs in the background is ended later."
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    env = os.environ | dict(PATH=path, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", MPLBACKEND="agg")
    if "PIX2SEQ_PLAIN" in env: env.pop("PYTHONPATH", None)
    else: env["PYTHONPATH"] = str(ROOT)
    with open(folder.with_suffix(".txt"), "w+", encoding="utf-8") as printed:
        process = subprocess.Popen(words, cwd=folder, env=env, stdout=printed,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        RUNNING.append(process)
        status = process.wait(timeout=600)
        printed.seek(0)
        return status, printed.read()


@pytest.fixture
def ended():
    "Afterwards, no process of a page is left."
    yield
    while RUNNING:
        try: os.killpg(RUNNING.pop().pid, signal.SIGTERM)
        except ProcessLookupError: pass


@pytest.mark.skipif(os.name == "nt", reason="the lines are for a shell")
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_line_runs(page, programs, tmp_path, ended):
    needed = NEEDS.get(page.stem, "torch")
    if run(["python", "-c", f"import {needed}"], tmp_path, programs)[0]:
        pytest.skip(f"this page needs {needed}")
    found = blocks(page)
    assert {"bash", "python"} == {language for language, _ in found}
    for language, lines in found:
        words = dict(bash=["bash", "-ec", lines], python=["python", "-c", lines])[language]
        status, printed = run(words, tmp_path, programs)
        assert status == 0 and "Traceback" not in printed, f"{lines}\n{printed}"


def data_of_the_tutorial() -> str:
    "The code with which the tutorial writes its photographs; they end in the current folder."
    cells = json.loads(TUTORIAL.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    last = next(i for i, lines in enumerate(code) if "write_split(folder" in lines)
    here = "import tempfile\ntempfile.mkdtemp = lambda: '.'"
    return "\n".join([here, *(lines for lines in code[:last + 1] if "%pip" not in lines)])


@pytest.mark.skipif(os.name == "nt", reason="the lines are for a shell")
def test_the_tutorial_runs(programs, tmp_path, ended):
    found = blocks(TUTORIAL)
    assert [language for language, _ in found] == ["bash", "bash"]
    status, printed = run(["python", "-c", data_of_the_tutorial()], tmp_path, programs)
    assert status == 0, printed
    for _, lines in found:
        status, printed = run(["bash", "-ec", lines], tmp_path, programs)
        assert status == 0 and "Traceback" not in printed, f"{lines}\n{printed}"
    assert (tmp_path/"runs/signs/report.html").is_file() and any((tmp_path/"found").iterdir())


def test_pages_hold_the_words_that_people_search_for():
    text = " ".join(map(prose, PAGES)).casefold()
    assert not [words for words in SEARCHED if words not in text]


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_page_is_short(page):
    lines = [line for line in prose(page).splitlines() if line.strip()]
    assert len(lines) <= 50 and max(map(len, (line for _, b in blocks(page)
                                              for line in b.splitlines()))) <= 100
