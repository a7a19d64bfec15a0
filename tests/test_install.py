"What `pip install` puts on a machine: the same files as the checkout, and commands that start from any folder."
import subprocess, sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
config = ConfigParser()
config.read(ROOT/'settings.ini')
COMMANDS = [line.split('=')[0] for line in config['DEFAULT']['console_scripts'].split()]


def files_below(folder:Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob('*')
            if p.is_file() and '__pycache__' not in p.parts}


def test_installed_files():
    try: installed = Path(distribution('pix2seq').locate_file('pix2seq'))
    except PackageNotFoundError: pytest.skip('pix2seq is not installed')
    if not installed.is_dir(): pytest.skip('an editable install has no files of its own')
    assert files_below(installed) == files_below(ROOT/'pix2seq')


@pytest.mark.parametrize('command', COMMANDS)
def test_command_starts(command, tmp_path):
    script = Path(sys.executable).with_name(command)
    if not script.exists(): pytest.skip('pix2seq is not installed')
    result = subprocess.run([script, '--help'], cwd=tmp_path, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert 'usage' in result.stdout


def test_bench_takes_words(tmp_path):
    script = Path(sys.executable).with_name('pix2seq_bench')
    if not script.exists(): pytest.skip('pix2seq is not installed')
    result = subprocess.run([script, 'plain', 'engine', '--preset', 'digits', '--size', '96', '--dry_run'], cwd=tmp_path, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert 'to be measured: plain, engine' in result.stdout
