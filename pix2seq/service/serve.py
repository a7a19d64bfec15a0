"""Finds objects over HTTP, with numpy, Pillow and onnxruntime alone:

python serve.py 8000, and then: curl --data-binary @photo.jpg http://127.0.0.1:8000"""
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from PIL import Image, ImageOps

here, END, NOISE = Path(__file__).parent, 0, 30
c = json.loads((here/"config.json").read_text(encoding="utf-8"))
encoder, step = (InferenceSession(here/f"{name}.onnx") for name in ("encoder", "step"))
coords = c["coord_offset"] + np.arange(c["quantization_bins"])
classes = c["class_offset"] + np.arange(c["num_classes"])
grammar = np.r_[END, coords], coords, coords, coords, np.r_[NOISE, classes]

def read(pixels): # [1, 3, H, W]
    "Yield the box (ymin, xmin, ymax, xmax in 0..1), label and score of each object."
    [image] = encoder.run(None, {"images": pixels})
    past = np.zeros((*image.shape[:4], c["max_seq_len"], image.shape[-1]), np.float32)
    tokens, low = [c["prompt_token"]], 0
    for i in range(5*c["max_instances"]):
        given = dict(read=np.array(tokens[-1:]), position=np.array([i]), past=past, image=image)
        [logits], past[:, :, :, :, i:i + 1] = step.run(None, given)
        allowed = grammar[i % 5]
        tokens.append(int(allowed[logits[allowed].argmax()]))
        if tokens[-1] == END: return
        if i % 5 < 4: continue
        scores = np.exp(logits - logits.max())
        scores = scores[classes]/scores.sum()
        box = (np.array(tokens[-5:-1]) - coords[0])/(len(coords) - 1)
        yield box, scores.argmax(), scores.max()
        low = low + 1 if scores.max() < 0.01 else 0
        if low == 3: return # so many in a row: the rest is noise, too

def detect(image): # RGB
    "The objects of a PIL image, best first, with boxes in its own pixels."
    canvas, sides, found = np.array(c["image_size"]), np.array(image.size[::-1]), []
    h, w = fit = np.maximum(1, np.round(sides*min(canvas/sides))).astype(int)
    pixels = np.full((1, 3, *canvas), 0.3, np.float32)
    for channel, plane in zip(pixels[0], np.asarray(image, np.float32).transpose(2, 0, 1)/255):
        channel[:h, :w] = Image.fromarray(plane).resize((w, h), Image.Resampling.BILINEAR)
    for box, label, score in read(pixels):
        box = np.minimum(box.reshape(2, 2)*canvas/fit*sides, sides)[:, ::-1]
        row = {"class": (c["class_names"] or classes)[label], "score": score, "box": box.ravel()}
        if (box[0] < box[1]).all(): found.append(row)
    return sorted(found, key=lambda row: -row["score"])

class Service(BaseHTTPRequestHandler):
    timeout, most = 30, 50_000_000 # seconds and bytes

    def do_POST(self):
        try:
            size = int(self.headers["Content-Length"] or 0)
            image = Image.open(BytesIO(self.rfile.read(max(0, min(size, self.most)))))
            status, answer = 200, detect(ImageOps.exif_transpose(image).convert("RGB"))
        except Exception as e: status, answer = 400, {"error": str(e)}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer, default=lambda number: number.tolist()).encode())

if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int((*sys.argv, 8000)[1])), Service)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
