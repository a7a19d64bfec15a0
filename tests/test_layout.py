"""How the book is laid out: chapters in reading order, modules that build on earlier ones alone.

Each notebook `NN_name.ipynb` with `#| default_exp` is the source of the module `name`.
"""
import ast
import json
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NBS = ROOT/'nbs'
config = ConfigParser()
config.read(ROOT/'settings.ini', encoding='utf-8')
settings = config['DEFAULT']
REPOSITORY = f"{settings['user']}/{settings['repo']}/blob/{settings['branch']}"
CHAPTERS = sorted(NBS.glob('[0-9]*.ipynb'))
TUTORIALS = sorted(NBS.glob('tutorials/[!_.]*.ipynb'))
MOST_LINES = 350

# Late imports, inside functions, of a later chapter's module: {(module, imported): reason}.
EXPLAINED = {
    ('model', 'official'): 'a model can be made of a published one, whose chapter builds on models',
}

# Modules that are longer: {module: reason}.
LONG = {
    'sampling': 'reading is one loop: its grammar, its choice, its stop and what each refuses',
    'commands': 'all commands in one place, each mostly a list of its options',
    'training': 'a run is one class: its setup, its loop, its stops and its end',
    'rivals': 'a race is one program: its detectors, their loop, its clock, its table and picture',
}


def exported(path:Path) -> str|None:
    "The name of the module that a notebook writes."
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        found = re.match(r'#\|\s*default_exp\s+(\S+)', ''.join(cell['source']))
        if found and cell['cell_type'] == 'code': return found[1]


MODULES = {name: path for path in CHAPTERS if (name := exported(path))}
ORDER = [*MODULES]
each_module = pytest.mark.parametrize('module', MODULES)


def file_of(module:str) -> Path: return ROOT/f'pix2seq/{module}.py'


def named(statement:ast.AST) -> set[str]:
    "Our modules that a statement imports."
    if isinstance(statement, ast.Import): names = [alias.name for alias in statement.names]
    elif isinstance(statement, ast.ImportFrom):
        package = 'pix2seq' if statement.level else None
        base = '.'.join(filter(None, [package, statement.module]))
        names = [base, *(f'{base}.{alias.name}' for alias in statement.names)]
    else: return set()
    return {name.split('.')[1] for name in names if name.startswith('pix2seq.')} & {*MODULES}


def imports(source:str) -> tuple[set[str],set[str]]:
    "Our modules that a module imports: when it is imported itself, and late, inside functions."
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree)
                 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    at_once, late = set(), set()
    for node in ast.walk(tree): (late if id(node) in inside else at_once).update(named(node))
    return at_once, late


def later(modules:set[str], than:str) -> set[str]:
    "Those of some modules that do not come before another."
    return {module for module in modules if ORDER.index(module) >= ORDER.index(than)}


def test_imports_are_found():
    first, second, third, *_ = ORDER
    source = f'''
from .{first} import x
import pix2seq.{second}
from torch import nn
class A:
    def method(self):
        if self: from pix2seq.{third} import y
        from pix2seq import {first}, __version__
'''
    assert imports(source) == ({first, second}, {third, first})
    assert later({first, second, third}, than=second) == {second, third}


def test_chapters_are_numbered_without_gaps():
    numbers = [path.name.partition('_')[0] for path in CHAPTERS]
    assert numbers == [f'{number:02}' for number in range(len(CHAPTERS))]


def test_every_module_has_one_chapter_of_its_name():
    written = {path.stem for path in (ROOT/'pix2seq').glob('*.py')} - {'__init__', '_modidx'}
    assert written == {*MODULES}
    names = {module: path.stem.partition('_')[2] for module, path in MODULES.items()}
    assert names == {module: module for module in MODULES}


def test_sidebar_lists_every_notebook_once_in_order():
    listed = re.findall(r'[\w./-]+\.ipynb', (NBS/'sidebar.yml').read_text(encoding='utf-8'))
    others = [*NBS.glob('[!0-9_.]*.ipynb'), *NBS.glob('howto/[!_.]*.ipynb'), *TUTORIALS]
    chapters = [path.name for path in CHAPTERS]
    assert sorted(listed) == sorted([*chapters, *(p.relative_to(NBS).as_posix() for p in others)])
    assert [name for name in listed if name in chapters] == chapters
    assert listed[0] == 'index.ipynb'


@pytest.mark.parametrize('path', TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_opens_in_colab(path):
    "A badge with its own address, then a cell that fetches the package, and the files it reads."
    _, badge, install, *rest = json.loads(path.read_text(encoding='utf-8'))['cells']
    place = f'colab.research.google.com/github/{REPOSITORY}/{path.relative_to(ROOT).as_posix()}'
    assert ''.join(badge['source']) == f'[![Open in Colab](../images/colab.svg)](https://{place})'
    lines = ''.join(install['source']).splitlines()
    assert lines[0] == '#| hide' and not install['outputs']
    assert 'if not find_spec("pix2seq"): # as on Colab' in lines
    code = ''.join(line for cell in rest if cell['cell_type'] == 'code' for line in cell['source'])
    kept = [file for file in path.parent.rglob('*.*') if file.suffix in ('.csv', '.json', '.jsonl')]
    read = {file.name for file in kept if f'"{file.relative_to(path.parent).as_posix()}"' in code}
    assert read == set(re.findall(r'\w+\.(?:csv|jsonl?)', '\n'.join(lines)))


@each_module
def test_module_builds_on_earlier_ones(module):
    at_once, late = imports(file_of(module).read_text(encoding='utf-8'))
    assert not later(at_once, than=module)
    explained = {imported for importer, imported in EXPLAINED if importer == module}
    assert later(late, than=module) == explained    # no more, and nothing explained in vain


@each_module
def test_module_is_short_or_says_why(module):
    lines = len(file_of(module).read_text(encoding='utf-8').splitlines())
    assert (lines > MOST_LINES) == (module in LONG), f'{lines} lines, {MOST_LINES} at most'


def test_explanations_are_of_modules():
    pairs = [(*pair, reason) for pair, reason in EXPLAINED.items()]
    assert {name for *pair, _ in pairs for name in pair} | {*LONG} <= {*MODULES}
    assert all(reason for *_, reason in [*pairs, *LONG.items()])


@each_module
def test_lines_of_a_module_fit(module):
    "All but `__all__`, which nbdev wraps at 120 characters."
    text = re.sub(r"^__all__ = \[.*?\]$", "", file_of(module).read_text(encoding="utf-8"),
                  flags=re.M | re.S)
    assert not [line for line in text.splitlines() if len(line) > 100]
