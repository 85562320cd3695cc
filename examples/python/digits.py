"""Classify handwritten digits with the model that `broker serve --demo` serves, and print how many were right.

python examples/python/digits.py [--socket PATH] [--images FILE] [--labels FILE]
"""

import argparse
from pathlib import Path

import numpy as np
import ringbroker

DEMO = Path(__file__).resolve().parents[2] / "broker" / "demo"


def read_idx(path: Path, magic: int) -> np.ndarray:
    """Read an IDX file: a magic number whose last byte counts the dims, the dims, and one byte for each element."""
    data = path.read_bytes()
    found, *shape = np.frombuffer(data, ">u4", 1 + (magic & 0xFF)).tolist()
    if found != magic:
        raise ValueError(f"{path} is no IDX file of that kind")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def main() -> None:
    parser = argparse.ArgumentParser(description="Classify digits through shared memory.")
    parser.add_argument("--socket", help="the broker's socket; by default where `broker serve` puts it")
    parser.add_argument("--images", type=Path, default=DEMO / "test-images-idx3-ubyte")
    parser.add_argument("--labels", type=Path, default=DEMO / "test-labels-idx1-ubyte")
    options = parser.parse_args()
    images = read_idx(options.images, 0x00000803)  # [count, 8, 8], pixels from 0 to 16
    labels = read_idx(options.labels, 0x00000801)

    right = 0
    with ringbroker.connect(options.socket) as client, client.open("digits", slots=64) as model:
        for image, label in zip(images, labels, strict=True):
            with model.acquire(rows=1) as lease:
                np.divide(image, 16, out=lease.inputs["image"][0])  # written where the model reads it
                logits = lease.infer(timeout=10)["logits"]  # read where the model wrote it
                right += int(logits[0].argmax() == label)
    print(f"{right} of {len(labels)} right, accuracy {right / len(labels):.4f}")


if __name__ == "__main__":
    main()
