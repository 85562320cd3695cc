"""classify: images at 3x224x224, with a network of ResNet-18's shape, as an exported program and as ONNX.

The images are handwritten digits, each of the 8x8 pixels blown up to a square of 28x28. The convolutions are seeded
and not trained. The last layer is fitted, on some of the images that the demo's classifier was trained on, so that the
answers mean something; the programs ask about the held-out ones (`broker/demo`).
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.export import Dim

from broker.demo import IMAGES
from examples.models.folders import version_folder, write_cases

SIDE, PIXEL = 224, 28
FITTED = 160  # images for the last layer
CASES = 32
MAX_BATCH = 64
SETTINGS = """\
inputs = { image = "F32[batch,3,224,224]" }
outputs = { logits = "F32[batch,10]" }
max_batch = 16  # larger ones gain nothing on a few cores, and cost latency
"""


class Block(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        is_plain = stride == 1 and inputs == outputs
        self.around = (
            nn.Identity()
            if is_plain
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.around(x))


class ResNet18(nn.Module):
    """Images, `[batch, 3, 224, 224] F32` around -1 to 1, to `[batch, 10] F32`."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        widths += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            *(Block(*width) for width in widths),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(512, classes)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.head(self.features(image))}


def make(out: Path) -> None:
    """Make the network, write it twice, and what the plain one says of the first held-out images."""
    model = make_network()
    held_out = np.frombuffer(IMAGES.read_bytes(), np.uint8, offset=16).reshape(-1, 8, 8)[:CASES]
    images = enlarge(torch.from_numpy(held_out / 16).float())
    with torch.inference_mode():
        logits = model(images)["logits"]
    dims = ({0: Dim("batch", min=1, max=MAX_BATCH)},)
    program = torch.export.export(model, (images[:2].clone(),), dynamic_shapes=dims)
    torch.export.save(program, version_folder(out, "classify", SETTINGS) / "model.pt2")
    onnx_file = version_folder(out, "classify-onnx", SETTINGS) / "model.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    with warnings.catch_warnings(action="ignore"):  # the exporter's own deprecations
        torch.onnx.export(
            model, (images[:2].clone(),), onnx_file, input_names=["image"], output_names=["logits"],
            dynamic_shapes=dims, dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    write_cases(out, "classify", {"logits": logits.tolist()})


def make_network() -> ResNet18:
    """Seeded convolutions; normalisation and last layer fitted to a few images."""
    digits = load_digits()
    images, _, labels, _ = train_test_split(
        digits.images, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )  # as `broker.demo.train` splits them
    fitting = enlarge(torch.from_numpy(images[:FITTED] / 16).float())
    torch.manual_seed(0)
    model = ResNet18().train()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the plain mean of what it sees
        for batch in fitting[:32].split(16):
            model(batch)
        model.eval()
        features = torch.cat([model.features(batch) for batch in fitting.split(32)])
        fit_head(model.head, features, torch.from_numpy(labels[:FITTED]))
    return model


def fit_head(head: nn.Linear, features: torch.Tensor, labels: torch.Tensor) -> None:
    """Ridge regression of the features to one output per class."""
    x = features.double()
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x = (x - mean) / scale
    targets = nn.functional.one_hot(labels, 10).double() * 2 - 1
    weights = torch.linalg.solve(x.T @ x + 30 * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (targets - targets.mean(0)))
    head.weight.copy_((weights / scale[:, None]).T)
    head.bias.copy_(targets.mean(0) - (mean / scale) @ weights)


def enlarge(digits: torch.Tensor) -> torch.Tensor:
    """`[n, 8, 8]`, 0 to 1, to `[n, 3, 224, 224]`, -1 to 1: what the programs do to an image."""
    large = digits.repeat_interleave(PIXEL, 1).repeat_interleave(PIXEL, 2)
    return (large * 2 - 1)[:, None].expand(-1, 3, -1, -1).contiguous()
