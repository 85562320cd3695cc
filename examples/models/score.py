"""score: a small perceptron, 64 -> 64 -> 32 -> 1, of the kind that rates payments or ranks offers, thousands a second.

The data are synthetic: scikit-learn's `make_classification`, 64 features of which 24 say something, one row in ten of
the rare class. The perceptron is trained here, in a few seconds, the same at every run on the same versions.
"""

from pathlib import Path

import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.export import Dim

from examples.models.folders import version_folder, write_cases

FEATURES = 64
TRAINING_ROWS, HELD_OUT_ROWS = 12_000, 1_000
SETTINGS = """\
inputs = { features = "F32[batch,64]" }
outputs = { score = "F32[batch,1]" }
"""


class Scorer(nn.Module):
    """Features, `[batch, 64] F32`, to the probability of the rare class, `[batch, 1] F32`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()
        )

    def forward(self, features: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"score": self.layers(features)}


def make(out: Path) -> None:
    """Train, export, and write the held-out rows with what the plain model says of them."""
    rows, labels = make_rows()
    model = train(rows[:TRAINING_ROWS], labels[:TRAINING_ROWS])
    dims = {0: Dim("batch", min=1, max=4096)}
    program = torch.export.export(model, (rows[:2].clone(),), dynamic_shapes=(dims,))
    torch.export.save(program, version_folder(out, "score", SETTINGS) / "model.pt2")
    held_out = rows[TRAINING_ROWS:]
    with torch.inference_mode():
        scores = model(held_out)["score"][:, 0]
    write_cases(
        out,
        "score",
        {"rows": held_out.tolist(), "labels": labels[TRAINING_ROWS:].int().tolist(), "scores": scores.tolist()},
    )


def make_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Features, scaled to about one, and labels, 0 or 1."""
    rows, labels = make_classification(
        TRAINING_ROWS + HELD_OUT_ROWS, FEATURES, n_informative=24, n_redundant=8, n_clusters_per_class=4,
        weights=[0.9], flip_y=0.01, random_state=0,
    )  # fmt: skip
    scaled = (rows - rows[:TRAINING_ROWS].mean(0)) / rows[:TRAINING_ROWS].std(0)
    return torch.from_numpy(scaled.round(4)).float(), torch.from_numpy(labels).float()


def train(rows: torch.Tensor, labels: torch.Tensor) -> Scorer:
    """Ten epochs of Adam, seeded; in one thread, since the order of sums must not depend on how busy the machine is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Scorer()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3, weight_decay=1e-4)
    for _ in range(10):
        for batch in torch.randperm(len(rows)).split(128):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy(model(rows[batch])["score"][:, 0], labels[batch]).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    return model.eval()
