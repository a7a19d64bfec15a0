"""The published implementation's recorded numbers and ours, stage by stage: see `parity.py`.

Skipped where `../shared/parity` is absent.
"""
import math
from collections.abc import Iterable
from pathlib import Path

import parity
import pytest

ROOT = Path(__file__).parent.parent.parent/"shared/parity"
recorded = pytest.mark.skipif(not ROOT.is_dir(), reason="no recorded numbers in ../shared/parity")
OF_A_MODEL = [pytest.param(compare, folder, id=f"{folder.name}-{compare.__name__}")
              for folder in parity.models(ROOT) for compare in parity.OF_A_MODEL]


def check(rows:Iterable[parity.Row]):
    rows = list(rows)
    assert rows
    assert not [row for row in rows if not row.holds]


@recorded
@pytest.mark.parametrize("compare, folder", OF_A_MODEL)
def test_model(compare, folder): check(compare(parity.Fixture(folder)))


@recorded
@pytest.mark.parametrize("name", parity.OF_ALL)
def test_shared(name): check(parity.OF_ALL[name](ROOT))


def test_nan_holds_nowhere():
    "A shape that differs is seen wherever it stands among the differences."
    worst = parity.most([0., parity.NAN, 1.])
    assert math.isnan(worst) and not parity.Row("a stage", worst, bar=2.).holds
