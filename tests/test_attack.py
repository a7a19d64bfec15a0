"""Damaged inputs end right or in one sentence, and whatever else happens to them is counted.

The long form is `pytest -m attack -s tests/test_attack.py`; see `attack.py`."""
import os
import signal
import sys
import time

import pytest
from attack import ATTACKS, RIGHT, SENTENCE, Table, main, outcome, run

on_linux = pytest.mark.skipif(sys.platform != 'linux', reason='memory is counted in /proc')


@pytest.mark.parametrize('error, ended', [
    (ValueError('no'), SENTENCE), (OSError('no'), SENTENCE), (ValueError('two\nlines'), None),
    (ValueError('\x1b[2J'), None), (ValueError('x'*1000), None), (ValueError(), None),
    (FileNotFoundError(2, 'No such file'), None), (UnicodeError('no'), None),
    (KeyError('x'), None), (MemoryError(), 'memory')])
def test_outcomes_of_errors(error, ended):
    def call(): raise error
    assert outcome(call) == (ended or f'traceback: {type(error).__name__}')


def test_outcomes_of_results():
    assert outcome(lambda: 1) == RIGHT
    assert outcome(lambda: 1, lambda result: False) == 'silent'
    def forever():
        while True:
            try:
                while True: pass
            except Exception: pass
    assert outcome(forever, seconds=.2) == 'hang'


def test_sentences_that_do_not_help():
    def call(): raise ValueError('a.json is damaged')
    assert outcome(call, name='a.json') == SENTENCE
    assert outcome(call, name='b.json') == 'traceback: ValueError'
    assert outcome(call, whole=True) == 'refused'
    def call():
        try: raise MemoryError
        except MemoryError: raise OSError('it cannot be read') from None
    assert outcome(call) == 'memory'


def test_a_table_counts_and_keeps_seeds():
    table = Table()
    for seed, ended in enumerate((RIGHT, SENTENCE, 'traceback: KeyError')):
        table.add('images', seed, ended)
    assert table.failures == [('images', 2, 'traceback: KeyError')]
    assert '| images | 3 | 1 | 1 | 1 | 0 |' in str(table)


# Attacks that succeed, tried in children as all are
def killed(seed, folder): return dict(call=lambda: os.kill(os.getpid(), signal.SIGSEGV))


def stuck(seed, folder):
    def call():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(600)
    return dict(call=call)


def greedy(seed, folder): return dict(call=lambda: len(bytearray(3*2**29)))


def greedier(seed, folder): return dict(call=lambda: len(bytes(2**45)))


def careless(seed, folder):
    file = folder/'notes.txt'
    file.write_text('mine')
    return dict(call=file.unlink, right=lambda result: True)


def meddling(seed, folder):
    return dict(call=lambda: (folder/'thesis.txt').write_text(''))


def sound(seed, folder): return dict(call=lambda: 1)


@on_linux
def test_what_befalls_a_child_is_counted():
    "It dies, never answers, takes memory or touches files; the next input is tried all the same."
    succeed = dict(signal=killed, hang=stuck, memory=greedy, lost=careless)
    succeed |= {'memory, much': greedier, 'lost in part': meddling, RIGHT: sound}
    table = run(7, {name: (attack, 1) for name, attack in succeed.items()}, 1, patience=8)
    ends = {name: dict(ends) for name, ends in table.counts.items()}
    assert ends == {name: {name.replace(',', '').split()[0]: 1} for name in succeed}
    assert len(table.failures) == 6


@on_linux
def test_few_damaged_inputs():
    table = run(400)
    assert not table.failures, table.failures
    assert len(table.counts) == len(ATTACKS) and all(table.counts.values())


@on_linux
@pytest.mark.attack
def test_many_damaged_inputs(): assert not main()
