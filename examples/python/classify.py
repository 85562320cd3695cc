"""Classify images at 3x224x224, four to a request, and compare with the plain network.

    python -m examples.models classify
    broker serve classify=build/examples/models/classify/1
    python examples/python/classify.py [--socket PATH] [--cases DIR] [--model classify-onnx]

The images are the demo's handwritten digits, enlarged; they are written into shared memory as the network wants them,
and exist nowhere else at that size.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import ringbroker

ROOT = Path(__file__).resolve().parents[2]
DEMO, CASES = ROOT / "broker" / "demo", ROOT / "build" / "examples"
PIXEL = 28  # 8 x 28 = 224
ROWS = 4
TOLERANCE = 1e-3  # logits are around 1, the convolutions' sums of a batch are in another order than one row's


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify large images through shared memory.")
    parser.add_argument("--socket", help="the broker's socket; by default where `broker serve` puts it")
    parser.add_argument("--cases", type=Path, default=CASES, help="the folder that `python -m examples.models` made")
    parser.add_argument("--model", default="classify", help="classify, or classify-onnx")
    options = parser.parse_args()
    plain = np.array(json.loads((options.cases / "classify.json").read_text())["logits"])
    digits = np.frombuffer((DEMO / "test-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(-1, 8, 8)
    labels = np.frombuffer((DEMO / "test-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)

    logits = np.empty_like(plain)
    with ringbroker.connect(options.socket) as client, client.open(options.model, slots=ROWS) as model:
        for first in range(0, len(plain), ROWS):
            with model.acquire(rows=ROWS) as lease:  # rows side by side are one batch
                for row, image in enumerate(lease.inputs["image"]):  # [3, 224, 224], in shared memory
                    # [channel, y, y in pixel, x, x in pixel]; the same for all three channels
                    image.reshape(3, 8, PIXEL, 8, PIXEL)[:] = digits[first + row][:, None, :, None] / 8 - 1
                result = lease.infer(timeout=30)
                logits[first : first + ROWS] = result["logits"]

    difference = float(np.abs(logits - plain).max())
    agreed = int((logits.argmax(1) == plain.argmax(1)).sum())
    right = int((logits.argmax(1) == labels[: len(plain)]).sum())
    print(f"{right} of {len(plain)} right; {agreed} as the plain network, difference {difference:.1e}")
    if agreed < len(plain) or difference > TOLERANCE or right < 0.8 * len(plain):
        raise SystemExit("classify: that is not what the plain network says")


if __name__ == "__main__":
    main()
