"""Damaged inputs by the thousand, each from a seed, and a table of how each kind ended.

`python tests/attack.py` tries all, `python tests/attack.py 500` so many in all, and
`python tests/attack.py 'results files' 17` one again, with its traceback. Every input is tried in a
child process: one that dies by a signal or never answers is counted, and a new child continues."""
import collections
import contextlib
import os
import pkgutil
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attack_files
import attack_models

RIGHT, SENTENCE = 'right', 'one sentence'  # the two outcomes that are no failure
FAILURES = 'traceback', 'hang', 'signal', 'memory', 'silent', 'refused', 'lost'
SECONDS = 60  # after which an input is said to hang; its child is killed after twice as many
MEMORY = 2**30  # bytes that an input may take; an allocation of four times as many fails
PROMISED = ValueError, OSError, FileNotFoundError, FileExistsError, ConnectionError


# One input
class Hang(BaseException):
    "Raised by the alarm; no `except Exception` of the library can take it."


def _ring(*_):
    raise Hang


@contextlib.contextmanager
def alarm(seconds:float):
    "Raise `Hang` after so many seconds (on systems with alarms)."
    before = signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try: yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_sentence(error:BaseException, name:str='') -> bool:
    "An error of the types that are promised, in one printable line that names the file."
    sentence = str(error).strip()
    if type(error) not in PROMISED or sentence.startswith('[Errno'): return False
    return sentence.isprintable() and 0 < len(sentence) < 1000 and name in sentence


def no_memory(error:BaseException|None) -> bool:
    "Did an allocation fail, here or in what led to this error?"
    while error is not None:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error): return True
        error = error.__cause__ or error.__context__
    return False


def outcome(
    call, # reads the input
    right=lambda result: True, # is the result as it should be?
    name:str='', # of a file, which a sentence must give
    whole:bool=False, # nothing is damaged, so that no sentence is in place
    seconds:float=SECONDS,
) -> str: # one of the columns of the table; a traceback with the type of its error
    "How a call ends; `silent` is a result that is not right, `refused` a sentence out of place."
    try:
        with alarm(seconds), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return RIGHT if right(call()) else 'silent'
    except Hang: return 'hang'
    except Exception as error:
        if no_memory(error): return 'memory'
        if not is_sentence(error, name): return f'traceback: {type(error).__name__}'
        return 'refused' if whole else SENTENCE


def contents(folder:Path) -> dict[str,bytes]:
    "Every file below a folder, and what it holds."
    files = (path for path in folder.rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def status(name:str) -> int:
    "A number of bytes that Linux keeps about this process."
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1])*1024 for line in lines if line.startswith(name + ':'))


def attempt(attack, seed:int, folder:Path) -> str:
    "How one input ends, what it took and what it left behind included."
    folder.mkdir(exist_ok=True)
    (folder/'thesis.txt').write_text('all of it')
    case, before = attack(seed, folder), contents(folder)
    Path('/proc/self/clear_refs').write_text('5')  # the peak begins here
    held = status('VmHWM')
    ended = outcome(**case)
    if status('VmHWM') - held > MEMORY: return 'memory'
    if contents(folder) == before: return ended
    shutil.rmtree(folder)
    return 'lost'


# Children
def work(place:Path) -> None:
    "Answer every line `function seed` with how that input ended, until there are no more."
    import resource  # where there is /proc
    replies = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)  # what libraries print is no reply
    limit = status('VmSize') + 4*MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print('ready', file=replies)
    for line in sys.stdin:
        function, seed = line.split()
        folder = place/function.replace(':', '-')
        print(attempt(pkgutil.resolve_name(function), int(seed), folder), file=replies)


class Child:
    "A process that tries inputs; after its death there is another."
    def __init__(self, place:Path, patience:float):
        self.place, self.patience = place, patience
        self.start()

    def start(self) -> None:
        "A process with a folder of its own, once it has imported all."
        folder = Path(tempfile.mkdtemp(dir=self.place))
        root, here = Path(__file__).parent.parent, Path(__file__).parent
        paths = f'{root}{os.pathsep}{here}'
        with (folder/'errors').open('w') as errors:
            self.process = subprocess.Popen(
                [sys.executable, __file__, '--child', folder], text=True, bufsize=1, stderr=errors,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                env=os.environ | dict(OMP_NUM_THREADS='1', PYTHONPATH=paths))
        self.folder, ready = folder, self.process.stdout.readline()
        if not ready: raise RuntimeError((folder/'errors').read_text())

    def ask(self, function:str, seed:int) -> str:
        "How an input ends."
        print(function, seed, file=self.process.stdin)
        answers = select.select([self.process.stdout], [], [], self.patience)[0]
        reply = self.process.stdout.readline() if answers else ''
        if reply: return reply.strip()
        if not answers: self.process.kill()
        if self.process.wait() > 0: raise RuntimeError((self.folder/'errors').read_text())
        self.start()
        return 'signal' if answers else 'hang'

    def end(self) -> None:
        "Let the process go."
        self.process.stdin.close()
        self.process.wait()


# All inputs
ATTACKS = {  # what is tried, and how many inputs of 1,000
    'images': (attack_files.image, 280),
    'annotation files': (attack_files.annotations, 180),
    'results files': (attack_files.results, 120),
    'fields of a config, ResNet': (attack_models.resnet_config, 86),
    'fields of a config, ViT': (attack_models.vit_config, 86),
    'weights': (attack_models.weights, 40),
    'tables of variables': (attack_models.table, 104),
    'tables of variables, checksums right': (attack_models.lying_table, 104),
}


class Table:
    "Counts of inputs by kind and outcome, and the seeds of the failures."
    def __init__(self): self.counts, self.failures = {}, []

    def add(self, kind:str, seed:int, ended:str) -> None:
        "Count one input."
        column = ended.split(':')[0]
        self.counts.setdefault(kind, collections.Counter())[column] += 1
        if column in FAILURES: self.failures.append((kind, seed, ended))

    def __str__(self) -> str:
        columns = RIGHT, SENTENCE, *FAILURES
        rows = [('inputs', 'number', *columns), ['---'] + ['---:']*(len(columns) + 1)]
        every = sum(self.counts.values(), collections.Counter())
        for kind, ends in [*self.counts.items(), ('all', every)]:
            rows.append((kind, f'{ends.total():,}', *(f'{ends[name]:,}' for name in columns)))
        return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def run(number:int, attacks:dict=ATTACKS, children:int=2, patience:float=2*SECONDS) -> Table:
    "So many inputs in all, shared among the kinds."
    table, turn = Table(), threading.Lock()
    for kind in attacks: table.counts[kind] = collections.Counter()
    names = {kind: f'{function.__module__}:{function.__name__}'
             for kind, (function, _) in attacks.items()}
    total = sum(share for _, share in attacks.values())
    inputs = iter([(kind, seed) for kind, (_, share) in attacks.items()
                   for seed in range(-(-number*share//total))])
    def serve(place):
        child = Child(place, patience)
        while True:
            with turn: kind, seed = next(inputs, (None, None))
            if kind is None: return child.end()
            ended = child.ask(names[kind], seed)
            with turn: table.add(kind, seed, ended)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(children) as pool:
        for served in [pool.submit(serve, Path(place)) for _ in range(children)]: served.result()
    return table


def once_more(kind:str, seed:int) -> None:
    "One input again; an error is not caught."
    with tempfile.TemporaryDirectory() as place:
        case = ATTACKS[kind][0](seed, Path(place))
        result = case['call']()
        print('right' if case.get('right', lambda result: True)(result) else 'silent', result)


def main(*words:str) -> int: # failures
    "The command; see the docstring of the module."
    if words[:1] == ('--child',): return work(Path(words[1])) or 0
    if len(words) == 2: return once_more(words[0], int(words[1])) or 0
    begin = time.monotonic()
    table = run(int(words[0]) if words else 20_000)
    print(table, f'\n{time.monotonic() - begin:.0f} s')
    for failure in table.failures[:40]: print(*failure)
    return len(table.failures)


if __name__ == '__main__': sys.exit(bool(main(*sys.argv[1:])))
