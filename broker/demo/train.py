"""Train the demo's digits classifier, and write what ships: its weights, and the held-out images and labels.

    make train

The data are scikit-learn's 1797 handwritten digits (8x8, 0 to 16); a quarter, 450, stratified by label with seed 0,
is held out: nothing here looks at it before the last line, which prints the accuracy on it. The images are written in
IDX, MNIST's own format, which every language reads in ten lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from broker.demo import IMAGES, LABELS, WEIGHTS, Digits

SEED = 0
EPOCHS = 120


def main() -> None:
    """Train, write, and print the held-out accuracy."""
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )
    model = _train(_scaled(train_images), torch.from_numpy(train_labels))
    np.savez(WEIGHTS, **{name: value.numpy() for name, value in model.state_dict().items()})
    _write_idx(IMAGES, test_images.astype(np.uint8))
    _write_idx(LABELS, test_labels.astype(np.uint8))
    with torch.inference_mode():
        right = (model(_scaled(test_images)).argmax(1).numpy() == test_labels).sum()
    print(f"held-out accuracy: {right}/{len(test_labels)} = {right / len(test_labels):.4f}")


def _scaled(images: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(images).float() / 16


def _train(images: torch.Tensor, labels: torch.Tensor) -> Digits:
    torch.manual_seed(SEED)
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(32):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            noisy = images[batch] + 0.1 * torch.randn_like(images[batch])
            torch.nn.functional.cross_entropy(model(noisy), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return model.eval()


def _write_idx(path: Path, array: np.ndarray[Any, Any]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(header + array.tobytes())


if __name__ == "__main__":
    main()
