"The notebooks run, have titles that the docs site keeps, and hold what is fit to be read."
import json
import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def is_ours(path:Path) -> bool:
    "Whether a notebook is no copy that Jupyter or nbdev keeps."
    return not any(part.startswith(('_', '.')) for part in path.relative_to(ROOT).parts)


def name_of(path:Path) -> str: return path.relative_to(ROOT/'nbs').with_suffix('').as_posix()


NOTEBOOKS = sorted(filter(is_ours, (ROOT/'nbs').rglob('*.ipynb')))
each_notebook = pytest.mark.parametrize('path', NOTEBOOKS, ids=name_of)


@each_notebook
def test_notebook_runs(path):
    "Top to bottom through nbdev's own test command, in a process of its own."
    # contended threads are many times slower
    env = {'OMP_NUM_THREADS': '1', 'MPLBACKEND': 'agg', **os.environ}
    code = f'from nbdev.test import nbdev_test; nbdev_test({str(path)!r}, n_workers=0)'
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(result.stdout)
    assert result.returncode == 0
    assert 'Success.' in result.stdout         # nbdev_test also exits 0 when it found no notebook


@each_notebook
def test_title_cell_holds_no_prose(path):
    "nbdev makes metadata of the title's cell, and the docs site loses what else the cell holds."
    title = ''.join(json.loads(path.read_text())['cells'][0]['source']).strip()
    assert re.fullmatch(r'# [^\n]+(\n+> [^\n]+)?', title)


@pytest.fixture(scope='module')
def check():
    "What `.ci/notebooks` finds in cells, each given as its code and its outputs."
    loader = SourceFileLoader('ci_notebooks', str(ROOT/'.ci/notebooks'))
    script = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(script)

    def check(*cells) -> list[str]:
        cells = [dict(cell_type='code', source=[code], outputs=outputs) for code, *outputs in cells]
        cells.append(dict(cell_type='markdown', source=['/home/me: prose may say anything']))
        return [*script.check(dict(cells=cells), {}, 'x')]
    return check


def printed(text:str, name:str='stdout') -> dict:
    return dict(output_type='stream', name=name, text=text.splitlines(keepends=True))


def shown(**data) -> dict:
    data = {kind.replace('_', '/'): value for kind, value in data.items()}
    return dict(output_type='display_data', data=data)


ALT = '#| fig-alt: "A scene"'
ERROR = dict(output_type='error', ename='KeyError', evalue='7', traceback=['…'])
LONG = '"' + 'x'*99 + '"'


@pytest.mark.parametrize('cells, what', [
    ([('1', printed('careful', 'stderr'))], 'stored stderr'),
    ([('1', ERROR)], 'stored an error: KeyError'),
    ([('1', printed('saved in /home/me/run'))], "stored an absolute path: '/home/m'"),
    ([('1', printed('/var/.cache is full'))], "stored an absolute path: '/var/.'"),
    ([('1', printed(r'saved in C:\Users\me'))], 'stored an absolute path: '),
    ([('1', shown(text_html='<b>/tmp/x</b>'))], "stored an absolute path: '/tmp/x'"),
    ([('1', printed(' 40%|████      | 4/10'))], "stored a progress bar: '0%|'"),
    ([('1', printed('3000/3000 [00:00<?'))], "stored a progress bar: '00:00<?'"),
    ([('1', printed('0it [00:00, ?it/s]'))], "stored a progress bar: '?it/s'"),
    ([('1', shown(text_html=['<progress value=3>']))], "stored a progress bar: '<progress'"),
    ([('1', printed('x.py:3: UserWarning: old'))], "stored a warning: 'UserWarning:'"),
    ([('1', printed('step.cpp:3:1: warning: unused'))], "stored a warning: 'warning:'"),
    ([('1', printed('\x1b[31mred\x1b[0m'))], r"stored a control code: '\x1b'"),
    ([('1', shown(image_png='iVBO'))], 'a picture without `#| fig-alt`'),
    ([('#| fig-alt: ""', shown(image_png='iVBO'))], 'a picture without `#| fig-alt`'),
    ([(ALT, shown(image_png='iVBO')), (ALT, shown(image_png='iV\nBO\n'))],
     'the same picture as in x, cell 1'),
    ([(ALT, shown(image_png='iVBO')),
      ('2', shown(text_html='<img src="data:image/png;base64,iVBO">'))],
     'the same picture as in x, cell 1'),
    ([(LONG,)], 'a line of 101 characters: '),
    ([('1\n'*41,)], 'a cell of 41 lines'),
])
def test_what_is_unfit_is_named_once(check, cells, what):
    found = check(*cells)
    place = f'x, cell {len(cells)}: {what}'
    assert len(found) == 1 and found[0].startswith(place), found


@pytest.mark.parametrize('cells', [
    [(LONG.replace('x', '', 1),)],
    [('1\n'*40,)],
    [('# as measured in https://example.com/' + 'x'*80,)],
    [('1', printed('95.6% right, 3 of 10 [1, 2], 12:30, 2/tmp/3, 5 it a second, no warnings'))],
    [('1', printed('~/opt/x, ./tmp/x, nbs/home/x, runs/var/1, https://example.com/home/x'))],
    [('1', printed('precision ▁▂▃▄▅▆▇█\t0.5\n'))],
    [('#| hide', shown(image_png='iVBO'))],
    [(ALT, shown(image_png='iVBO', text_plain='<Figure size 640x480 with 1 Axes>')),
     ('2', shown(text_html='<img src="data:image/png;base64,/tmp/x">'))],
])
def test_what_is_fit_is_not_named(check, cells): assert check(*cells) == []
