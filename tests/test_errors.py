"Where a detector fails: the command on files of results and on a model, and what it refuses."
import json
from pathlib import Path

import pytest
from PIL import Image
from test_results import CATEGORIES, some_results, theirs, write_data

from pix2seq.commands import main
from pix2seq.errors import KINDS

SAID = "errors.json, lost.png, confusion.png, worst.png"


def write_rows(root:Path, rows:list) -> Path:
    (root/'results.json').write_text(json.dumps(rows))
    return root/'results.json'


@pytest.fixture
def data(tmp_path): return write_data(tmp_path, [9, 4, 11, 2, 30, 7, 1, 25])


def errors(data, *words) -> int: # exit status
    given = '--images', data.images, '--annotations', data.path, *words
    return main(['errors', *map(str, given)])


def test_a_file_of_results(data, tmp_path, capsys):
    "Pycocotools' own AP50 and matches, and every picture."
    file, out = write_rows(tmp_path, some_results(data)), tmp_path/'out'
    assert errors(data, '--detections', file, '--out', out, '--by-class') == 0
    said, report = capsys.readouterr().out, json.loads((out/'errors.json').read_text())
    assert SAID in said and 'kind 7' in said
    for name in SAID.split(', ')[1:]: assert Image.open(out/name).size[0] > 300
    judge = theirs(data.path, file)
    assert report['AP50'] == pytest.approx(judge.stats[1])
    whole = [e for e in judge.evalImgs if e and e['aRng'] == judge.params.areaRng[0]]
    wrong = sum(((e['dtMatches'][0] == 0) & ~e['dtIgnore'][0]).sum() for e in whole)
    assert sum(report['counts'][kind] for kind in KINDS[:5]) == wrong
    assert report['counts']['false positives'] == wrong
    assert len(report['confusion']) == len(CATEGORIES) + 1


def test_a_perfect_file(data, tmp_path, capsys):
    "Nothing is lost, and there is no worst image."
    truth = json.loads(data.path.read_text())['annotations']
    rows = [dict(image_id=a['image_id'], category_id=a['category_id'], bbox=a['bbox'], score=.9)
            for a in truth if not a['iscrowd']]
    assert errors(data, '--detections', write_rows(tmp_path, rows), '--out', tmp_path/'out') == 0
    report = json.loads((tmp_path/'out/errors.json').read_text())
    assert report['AP50'] == pytest.approx(1) and not any(report['lost'].values())
    assert 'confused: no classes' in capsys.readouterr().out
    assert not (tmp_path/'out/worst.png').exists()


def test_nothing_is_found(data, tmp_path, capsys):
    assert errors(data, '--detections', write_rows(tmp_path, [])) == 0
    assert 'AP50 0.0000' in capsys.readouterr().out


def test_the_bundled_model(tmp_path, capsys):
    assert main(['errors', '--limit', '4', '--out', str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert '4 images' in said and 'errors.json' in said


def test_ids_that_do_not_match(data, tmp_path, capsys):
    "Which, and how many; for `pix2seq_eval` too."
    rows = some_results(data)
    for row in rows[:3]: row['category_id'] = 99
    file = write_rows(tmp_path, rows)
    counted = f'in 3 of {len(rows)} rows the category_id is not listed: 99 (3)'
    for command in ('errors', 'eval'):
        status = main([command, '--images', str(data.images), '--annotations', str(data.path),
                       '--detections', str(file)])
        assert status == 1 and counted in capsys.readouterr().err


def test_a_class_without_objects(data, tmp_path, capsys):
    content = json.loads(data.path.read_text())
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] != 7]
    data.path.write_text(json.dumps(content))
    rows = some_results(data)
    assert errors(data, '--detections', write_rows(tmp_path, rows)) == 0
    assert 'no object, so no AP, of the classes kind 7' in capsys.readouterr().out


def test_nothing_to_score(data, tmp_path, capsys):
    data.path.write_text(json.dumps(json.loads(data.path.read_text()) | dict(annotations=[])))
    assert errors(data, '--detections', write_rows(tmp_path, [])) == 1
    assert 'hold no box to find' in capsys.readouterr().err


def test_images_that_are_broken(data, tmp_path, capsys):
    "The figures need none; only the worst images are not drawn."
    for path in data.images.iterdir(): path.write_bytes(b'broken')
    file = write_rows(tmp_path, some_results(data))
    assert errors(data, '--detections', file, '--out', tmp_path/'out') == 0
    assert 'the worst images are not drawn' in capsys.readouterr().err
    assert (tmp_path/'out/confusion.png').exists() and not (tmp_path/'out/worst.png').exists()


def test_out_is_a_file(data, tmp_path, capsys):
    assert errors(data, '--detections', 'none.json', '--out', data.path) == 1
    assert 'is a file; expected a folder' in capsys.readouterr().err
