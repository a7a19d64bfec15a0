"The published implementation's recorded numbers and ours, stage by stage: see `parity.py`. Skipped where `../shared/parity` is absent."
from pathlib import Path

import parity
import pytest

ROOT = Path(__file__).parent.parent.parent/"shared/parity"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason="no recorded numbers in ../shared/parity")
of_a_model = [pytest.param(compare, folder, id=f"{folder.name}-{compare.__name__}") for folder in parity.models(ROOT) for compare in parity.OF_A_MODEL]


def check(rows:list[parity.Row]):
    rows = list(rows)
    assert rows
    assert not [row for row in rows if not row.holds]


@pytest.mark.parametrize("compare, folder", of_a_model)
def test_model(compare, folder): check(compare(parity.Fixture(folder)))


@pytest.mark.parametrize("name", parity.OF_ALL)
def test_shared(name): check(parity.OF_ALL[name](ROOT))
