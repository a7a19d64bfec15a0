"Damaged inputs end right or in one sentence; the long form is `pytest -m attack`."
import pytest
from attack import RIGHT, SENTENCE, Table, outcome, run


@pytest.mark.parametrize('error, ended', [
    (ValueError('no'), SENTENCE), (OSError('no'), SENTENCE), (ValueError('two\nlines'), None),
    (ValueError(), None), (KeyError('x'), None), (MemoryError(), None)])
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


def test_a_table_counts_and_keeps_seeds():
    table = Table()
    for seed, ended in enumerate((RIGHT, SENTENCE, 'hang')): table.add('images', seed, ended)
    assert table.failures == [('images', 2, 'hang')]
    assert '| images | 3 | 1 | 1 | 1 |' in str(table)


def test_few_damaged_inputs():
    table = run(150)
    assert not table.failures, table.failures


@pytest.mark.attack
def test_many_damaged_inputs():
    table = run(10_000)
    print(table)
    assert not table.failures, table.failures[:40]
