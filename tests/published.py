"A small model in the published form, and a server that gives it as the published bucket would."
import json
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch

from pix2seq import official
from pix2seq.model import Pix2Seq
from pix2seq.model_config import Pix2SeqConfig

CHAPTERS = Path(__file__).parent.parent/"nbs"
WRITER = { # functions of the chapters' own tests, by module
    "tf_checkpoint": ("varint", "write_checkpoint"),
    "published_names": ("state_names", "kernel_of"),
    "official": ("own_variables", "write_official"),
}
SMALL = dict(
    image_size=(64, 64), resnet_depths=(1, 1), resnet_width=8,
    encoder_layers=1, encoder_dim=32, encoder_mlp_dim=64, encoder_heads=4,
    decoder_layers=1, decoder_dim=32, decoder_mlp_dim=64, decoder_heads=4,
)


def cells(module:str) -> list[str]: # their sources
    "The code cells of a module's chapter."
    chapter, = CHAPTERS.glob(f"*_{module}.ipynb")
    found = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def writer() -> dict: # its functions by name, and `small`, which makes a model
    "The writer of checkpoints that the chapters' tests use."
    room = dict(vars(official))
    for module, functions in WRITER.items(): # imports first, then the cells that define the writer
        for source in cells(module):
            imports = source.startswith(("#| hide\nimport", "#| hide\nfrom"))
            if imports or any(f"def {name}(" in source for name in functions): exec(source, room)
    return room | dict(small=lambda: Pix2Seq(Pix2SeqConfig(**SMALL)).eval())


def write_published(folder:Path) -> Path: # the folder, which holds a TensorFlow checkpoint
    "Write a small model in the published form."
    torch.manual_seed(0)
    make = writer()
    return make["write_official"](make["small"](), folder)


class _Quiet(SimpleHTTPRequestHandler):
    "Files of a folder, without a line for each request."
    def log_message(self, *args): pass


@contextmanager
def serving(folder:Path):
    "The address of a server of this folder, on this machine."
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
