"""What becomes of a chapter's cells on the site: entries for what it exports, folds for its tests.

nbdev runs `Entries` on every notebook, as `settings.ini` asks, for Quarto as for `.ci/docs`. An
entry is a heading and a link to the source. Below it stands the code; of a function in an
`#| export` cell, only docstring, signature, and the comments on the parameters and the result.
"""
import ast
import re

from execnb.nbio import mk_cell
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor
from nbdev.showdoc import showdoc_nm

UNSEEN = {'export', 'exporti', 'hide', 'default_exp'}  # directives of cells that are not shown
FOLD = '#| code-fold: show\n#| code-summary: "Exported source"\n'
CHECK = '#| code-fold: true\n#| code-summary: "Check"\n'
WIDTH = 90  # a longer signature has a line for each parameter


def public(source:str) -> list:
    "The functions and classes in a cell that are meant for others, in their order."
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return [node for node in ast.parse(source).body
            if isinstance(node, kinds) and not node.name.startswith('_')]


def signature(pairs:list, node) -> str:
    "The head of a function without its comments: on one line, if it fits."
    flat = ' '.join(code.strip() for code, *_ in pairs)
    flat = re.sub(r',? \)', ')', flat.replace('( ', '('))
    if len(flat) > WIDTH: flat = '\n'.join(code for code, *_ in pairs if code)
    decorators = [f'@{name}' for name in map(ast.unparse, node.decorator_list)
                  if not name.startswith('patch')]
    return '\n'.join([*decorators, flat.removesuffix(':')])


def description(source:str, node) -> str:
    "A function's docstring, its signature, and a list of the comments in its head."
    head = source.splitlines()[node.lineno - 1:max(node.lineno, node.body[0].lineno - 1)]
    pairs, link = [re.split(r'\s*# ', line, maxsplit=1) for line in head], NbdevLookup().linkify
    rows = []
    for code, comment in (pair for pair in pairs if len(pair) == 2):
        name = re.match(r'\s+(\**\w+)', code)
        rows.append((f'- `{name[1]}`: ' if name else '- returns ') + link(comment))
    docstring = link(ast.get_docstring(node)) or ''
    return '\n\n'.join([docstring, f'```python\n{signature(pairs, node)}\n```', '\n'.join(rows)])


def ends_in_test(body:list[ast.stmt]) -> bool:
    "Whether the last statement does nothing but test."
    last = body[-1]
    if isinstance(last, (ast.For, ast.With)): return ends_in_test(last.body)
    call = last.value if isinstance(last, ast.Expr) else None
    name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ''
    return isinstance(last, ast.Assert) or name.startswith('test_')


def is_check(cell) -> bool:
    "Whether a cell shows nothing, defines nothing, and ends in a test."
    if cell.cell_type != 'code' or cell.outputs: return False
    source = re.sub(r'(\n(plt\.close|\w+\.unlink)\(.*\))+$', '', cell.source.rstrip())
    try: body = ast.parse(source).body
    except SyntaxError: return False  # `%` and `!` are IPython's
    return bool(body) and ends_in_test(body) and not any(
        isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in body)


class Entries(Processor):
    "Put an entry in the place of each public name that a notebook exports."
    def begin(self):
        cfg, all_of = get_config(), [cell.directives_ for cell in self.nb.cells]
        names = [found['default_exp'][0] for found in all_of if 'default_exp' in found]
        if not names: return
        path = cfg.lib_path/f'{names[0]}.py'
        self.url = f'{cfg.git_url}/blob/{cfg.branch}/{cfg.lib_path.name}/{path.name}'
        self.lines = {showdoc_nm(node): node.lineno for node in public(path.read_text())}

    def end(self):
        self.nb.cells = [new for cell in self.nb.cells for new in self.entries(cell)]

    def entries(self, cell):
        "The cells that take the place of one cell."
        directives = cell.directives_
        if 'exports' not in directives and not UNSEEN & directives.keys():
            if is_check(cell): cell.source = CHECK + cell.source
            yield cell
        if 'hide' in directives or not {'export', 'exports'} & directives.keys(): return
        nodes, lines = public(cell.source), cell.source.splitlines()
        ends, start = [*(node.end_lineno for node in nodes[:-1]), len(lines)], 0
        for node, end in zip(nodes or [None], ends):
            if node: yield mk_cell(self.heading(node), 'markdown')
            if 'exports' in directives or isinstance(node, ast.ClassDef):
                yield mk_cell(FOLD + '\n'.join(lines[start:end]).strip('\n'))
            elif node: yield mk_cell(description(cell.source, node), 'markdown')
            start = end

    def heading(self, node) -> str:
        "The name of an entry, and a link to the line of the module where its code begins."
        name = showdoc_nm(node)
        style = 'float:right; font-size:smaller'
        return f'### {name}\n\n[source]({self.url}#L{self.lines[name]}){{style="{style}"}}'
