"""The README.md beside every saved model: its facts, who may change it, and what ignores it.

And what the repository says of itself: `CITATION.cff`."""
import json
import shutil
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pix2seq.checkpoint import is_whole
from pix2seq.model import Pix2Seq
from pix2seq.model_config import Pix2SeqConfig
from pix2seq.saved_weights import bundled_weights
from pix2seq.train_config import TrainConfig
from pix2seq.training import train

ROOT = Path(__file__).parent.parent
TINY = dict(encoder_layers=1, decoder_layers=1, resnet_depths=(1, 1))
SHORT = dict(steps=2, batch_size=2, warmup_steps=1, eval_every=1, eval_images=5, save_every=1,
             log_every=1, workers=0, lr=2e-3, model=TINY)


def card_of(folder:Path) -> str: return (folder/'README.md').read_text(encoding='utf-8')


def header(card:str) -> dict: return yaml.safe_load(card.split('---')[1])


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
    "A run folder; take a copy."
    out = tmp_path_factory.mktemp('cards')/'run'
    train(TrainConfig(out=str(out), **SHORT))
    return out


def test_cards_of_a_run(run):
    model = Pix2Seq.from_pretrained(run/'checkpoint')
    count = sum(p.numel() for p in model.parameters())
    figures = json.loads((run/'best/figures.json').read_text())
    for folder in ('checkpoint', 'checkpoint-0000001', 'best'):
        card = card_of(run/folder)
        assert header(card)['library_name'] == 'pix2seq'
        assert header(card)['pipeline_tag'] == 'object-detection'
        assert f'A shape of its own, {count:,} parameters.' in card and '96×96 pixels' in card
        assert 'The embedded digits' in card and '--lr 0.002' in card and str(run) not in card
    assert '2 of 2, 2 images each, seed 0.' in card_of(run/'checkpoint')
    assert '1 of 2, 2 images each, seed 0.' in card_of(run/'checkpoint-0000001')
    assert 'Not evaluated.' in card_of(run/'checkpoint-0000001')
    best = card_of(run/'best')
    assert f"{figures['step']} of 2" in best
    assert f"AP {figures['AP']:.4f}" in best and f"on {figures['images']} validation" in best
    last = [row for row in map(json.loads, (run/'metrics.jsonl').open()) if 'AP' in row][-1]
    assert f"AP {last['AP']:.4f}" in card_of(run/'checkpoint')
    assert 'on 5 validation images' in card_of(run/'checkpoint')


def test_an_edited_card_stays_and_a_run_continues(run, tmp_path):
    out = shutil.copytree(run, tmp_path/'run')
    before = {place: card_of(out/place) for place in ('checkpoint', 'best')}
    sums = json.loads((out/'checkpoint/complete.json').read_text())['sha256']
    assert 'README.md' not in sums
    (out/'checkpoint/README.md').write_text('my own words', encoding='utf-8')
    (out/'best/README.md').unlink()
    assert is_whole(out/'checkpoint')
    config = TrainConfig(**SHORT | dict(out=str(out)))
    train(config)                                                  # has ended: changes nothing
    assert card_of(out/'checkpoint') == 'my own words'
    Pix2Seq.from_pretrained(out/'best')
    shutil.rmtree(out/'checkpoint')
    train(config)                                                  # from update 1
    assert card_of(out/'checkpoint') == before['checkpoint']
    assert card_of(run/'best') == before['best']


def test_a_card_that_an_older_version_sealed(run, tmp_path):
    out, folder = tmp_path/'run', tmp_path/'run/checkpoint'
    shutil.copytree(run, out)
    (folder/'README.md').write_text('written by the hub', encoding='utf-8')
    from pix2seq.files import sha256_of
    seal = json.loads((folder/'complete.json').read_text())
    seal['sha256']['README.md'] = sha256_of(folder/'README.md')
    (folder/'complete.json').write_text(json.dumps(seal))
    train(TrainConfig(**SHORT | dict(out=str(out))))
    assert is_whole(folder) and card_of(folder) == 'written by the hub'


def test_saving_over_a_model(tmp_path):
    config = Pix2SeqConfig.from_name('digits')
    Pix2Seq(config).save_pretrained(tmp_path)
    assert 'preset `digits`' in card_of(tmp_path) and '(10). 0, 1, 2' in card_of(tmp_path)
    odd = ('two\nlines', 'β', '---', '\x1b[2J')
    Pix2Seq(replace(config.with_classes(odd), encoder_layers=2)).save_pretrained(tmp_path)
    card = card_of(tmp_path)
    assert '(4). two lines, β, ---, ?[2J' in card and 'A shape of its own' in card
    assert header(card)['library_name'] == 'pix2seq'
    Pix2Seq(config).save_pretrained(tmp_path)
    assert 'preset `digits`' in card_of(tmp_path)
    (tmp_path/'README.md').write_bytes(b'\xff not text')
    Pix2Seq(config).save_pretrained(tmp_path)
    assert (tmp_path/'README.md').read_bytes() == b'\xff not text'
    Pix2Seq.from_pretrained(tmp_path)


def test_bundled_weights_have_a_card():
    assert [*bundled_weights()] == ['digits', 'small']
    for name, folder in bundled_weights().items():
        facts, card = Pix2Seq.from_pretrained(name).card(), card_of(folder)
        lines = [line for line in facts.splitlines() if line.startswith('- **')]
        assert len(lines) == 4 and {*lines} <= {*card.splitlines()}
        assert header(card)['library_name'] == 'pix2seq'
        assert header(card)['license'] == 'apache-2.0'


def test_citation():
    settings = ConfigParser()
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    cited = yaml.safe_load((ROOT/'CITATION.cff').read_text(encoding='utf-8'))
    assert cited['cff-version'] == '1.2.0' and cited['type'] == 'software' and cited['message']
    for ours, theirs in (('version', 'version'), ('repository-code', 'git_url')):
        assert str(cited[ours]) == settings['DEFAULT'][theirs]
    assert cited['license'] == 'Apache-2.0' and cited['authors'] and cited['title']
    [paper] = cited['references']
    assert [author['family-names'] for author in paper['authors']] == [
        'Chen', 'Saxena', 'Li', 'Fleet', 'Hinton']
    assert paper['type'] == 'conference-paper' and paper['year'] == 2022
