"A package of npm's registry, unpacked for as long as it is needed."
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def unpacked(package:str):
    "The folder of a package such as `katex@0.16.11`; `OSError` or `SubprocessError` without npm."
    with TemporaryDirectory() as tmp:
        subprocess.run(['npm', 'pack', '--silent', package], cwd=tmp, check=True,
                       capture_output=True, timeout=120)
        with tarfile.open(*Path(tmp).glob('*.tgz')) as tar: tar.extractall(tmp, filter='data')
        yield Path(tmp, 'package')
