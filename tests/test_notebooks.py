"Every notebook below `nbs/` runs top to bottom through nbdev's own test command, each in a process of its own."
import json, os, re, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted(p for p in (ROOT/'nbs').rglob('*.ipynb')
                   if not any(part.startswith(('_', '.')) for part in p.relative_to(ROOT).parts))
each_notebook = pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.relative_to(ROOT/'nbs').with_suffix('').as_posix())


@each_notebook
def test_notebook_runs(path):
    env = {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', **os.environ}  # contended threads are many times slower
    code = f'from nbdev.test import nbdev_test; nbdev_test({str(path)!r}, n_workers=0)'
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(result.stdout)
    assert result.returncode == 0
    assert 'Success.' in result.stdout         # nbdev_test also exits 0 when it found no notebook


@each_notebook
def test_title_cell_holds_no_prose(path):
    "nbdev turns the cell of the title into the page's metadata, and the docs site loses whatever else it holds."
    title = ''.join(json.loads(path.read_text())['cells'][0]['source']).strip()
    assert re.fullmatch(r'# [^\n]+(\n+> [^\n]+)?', title)
