"What `pip install` puts on a machine: the files of the checkout, and commands that start anywhere."
import re
import subprocess
import sys
import tarfile
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


def test_metadata():
    try: about = distribution('pix2seq').metadata
    except PackageNotFoundError: pytest.skip('pix2seq is not installed')
    expected = {'Typing :: Typed', 'Programming Language :: Python :: 3.10'}
    assert expected <= {*about.get_all('Classifier')}
    assert 'Documentation' in ' '.join(about.get_all('Project-URL'))


def test_readme_links_are_absolute():
    links = re.findall(r'\]\(([^)\s]+)\)', (ROOT/'README.md').read_text(encoding='utf-8'))
    assert links and not [link for link in links if not link.startswith(('https://', '#'))]


def test_sdist_holds_the_package_alone(tmp_path):
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '-e', tmp_path]
    subprocess.run([*command, 'sdist', '-d', tmp_path], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(*tmp_path.glob('*.tar.gz')) as packed:
        names = [Path(*Path(name).parts[1:]).as_posix() for name in packed.getnames()]
    assert {f'pix2seq/{name}' for name in files_below(ROOT/'pix2seq')} <= {*names}
    assert {'README.md', 'settings.ini'} <= {*names}
    assert not [name for name in names if name.startswith(('tests', 'nbs', '.ci', 'runs'))]


@pytest.mark.parametrize('command', COMMANDS)
def test_command_starts(command, tmp_path):
    script = Path(sys.executable).with_name(command)
    if not script.exists(): pytest.skip('pix2seq is not installed')
    result = subprocess.run([script, '--help'], cwd=tmp_path, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    assert 'usage' in result.stdout
