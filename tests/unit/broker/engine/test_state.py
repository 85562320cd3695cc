"""Models that keep state from call to call, or were exported in training mode: found at load, and said."""

import logging
import warnings

import pytest
import torch
from torch.export import Dim

from tests.unit.broker.parts import load_model


class Counting(torch.nn.Module):
    """Its answer does not show that it counts."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls.add_(1)
        return x + 1


class Recurrent(torch.nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 4, num_layers=2, batch_first=True, dropout=dropout)

    def forward(self, x):
        return self.lstm(x.unsqueeze(1))[0].squeeze(1)


class Attention(torch.nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.dropout = dropout

    def forward(self, x):
        x = x.unsqueeze(1)
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=self.dropout).squeeze(1)


class Drops(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.0, self.training) + 1


def warned_of(caplog):
    return [record.because for record in caplog.records if record.levelno == logging.WARNING]


@pytest.fixture
def load(tmp_path):
    def load(module, *, decomposed=False, **said):
        with warnings.catch_warnings(action="ignore"):
            program = torch.export.export(module, (torch.randn(3, 4),), dynamic_shapes=({0: Dim("batch")},))
            if decomposed:
                program = program.run_decompositions()
        torch.export.save(program, tmp_path / "model.pt2")
        return load_model(str(tmp_path / "model.pt2"), **{"max_batch": 8, **said})

    return load


TRAINED = {
    "norm": torch.nn.BatchNorm1d(4),
    "norm without state": torch.nn.BatchNorm1d(4, track_running_stats=False),
    "dropout": torch.nn.Dropout(),
    "attention": Attention(0.5),
    "lstm": Recurrent(0.5),
}


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_training_mode(load, name, decomposed, caplog):
    model = load(TRAINED[name].train(), decomposed=decomposed and name != "lstm")  # whose dropout torch would lose
    assert model.max_batch == 1
    assert not model.proof.is_repeatable
    assert model.proof.state.startswith("it was exported in training mode (aten.")
    assert model.proof.state.endswith("): call .eval() before torch.export.export")
    assert model.proof.batch == model.proof.state
    assert warned_of(caplog) == [model.proof.state]


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("max_batch", [1, 8])
def test_a_buffer_that_is_written(load, decomposed, max_batch, caplog):
    model = load(Counting(), decomposed=decomposed, max_batch=max_batch)
    assert model.max_batch == 1
    assert model.proof.state == model.proof.batch == "it writes into its buffer calls at every call"
    assert warned_of(caplog) == [model.proof.state]


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize(
    "module",
    [
        torch.nn.BatchNorm1d(4).eval(),
        torch.nn.Dropout().eval(),
        Drops().train(),
        Recurrent(0.0).train(),
        Attention(0.0).train(),
    ],
    ids=["norm", "dropout", "no dropout", "lstm", "attention"],
)
def test_a_model_for_inference(load, module, decomposed):
    """Training mode does no harm where nothing is dropped."""
    model = load(module, decomposed=decomposed)
    assert (model.max_batch, model.proof.state) == (8, None)
