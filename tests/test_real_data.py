"""Photographs with boxes as people have them. Skipped where `../shared/data` is absent."""
from pathlib import Path

import pytest

from pix2seq.data import CocoDataset
from pix2seq.data_report import ceiling, class_sides, look_at_files, suggest
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.run_setup import build, look
from pix2seq.train_config import TrainConfig

ROOT = Path(__file__).parent.parent.parent/'shared/data'
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason='no photographs in ../shared/data')
DIGITS = Pix2SeqConfig.from_name('digits')


@pytest.fixture(scope='module')
def cells() -> tuple[CocoDataset,CocoDataset]:
    with pytest.warns(UserWarning, match='2 had no finite positive area'):
        return tuple(CocoDataset.from_folder(ROOT/'bccd', split) for split in ('train', 'val'))


def test_blood_cells_need_more_objects_and_a_larger_canvas(cells):
    assert suggest(cells[0], DIGITS) == dict(max_instances=25, image_size=(192, 192))
    assert [name for _, name in class_sides(cells[0], (96, 96))] == ['Platelets', 'RBC', 'WBC']


def test_the_ceiling_of_blood_cells(cells):
    "With eight objects half of it is out of reach; with enough, the bins cost a little."
    as_it_is, room = (ceiling(cells[1], shape)
                      for shape in (DIGITS, DIGITS.override(max_instances=25)))
    assert as_it_is['AP'] < 0.55 and room['AP'] > 0.85
    assert all(image['looked'] == 72 and not image['unread']
               for image in [look_at_files(cells[1])])


@pytest.mark.filterwarnings('ignore:.*finite positive area')
def test_weights_of_the_digits_take_to_blood_cells():
    said = []
    config = TrainConfig(data=str(ROOT/'bccd'), weights='digits')
    model, *_ = build(config, said.append)
    assert (model.config.max_instances, model.config.image_size) == (25, (192, 192))
    assert 'positions 40 -> 125; canvas 96x96 -> 192x192' in said[-1]


def test_playing_cards_fit_as_they_are():
    lines = [*look(TrainConfig(data=str(ROOT/'cards'), weights='digits'))]
    assert not any('suggested' in line for line in lines)
    assert any('a model without a mistake would reach AP 0.9' in line for line in lines)
