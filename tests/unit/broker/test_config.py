"""What an operator can set, and what is found out where nothing was set."""

import os

import pytest

from broker import config
from broker.config import ServeConfig


def spin_ns(spin):
    return ServeConfig((), "path", spin=spin).spin_ns()


def test_the_spin(monkeypatch):
    assert spin_ns("off") == 0
    assert spin_ns("50") == 50_000
    assert spin_ns("0.5") == 500
    assert spin_ns("0") == 0
    monkeypatch.setattr(config, "usable_cpus", lambda: 4)
    assert spin_ns("auto") == 100_000
    monkeypatch.setattr(config, "usable_cpus", lambda: 1)
    assert spin_ns("auto") == 0


@pytest.mark.parametrize("spin", ["", "on", "nan", "inf", "-inf", "-1", "1e400", "10us"])
def test_a_bad_spin(spin):
    with pytest.raises(ValueError):
        spin_ns(spin)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}),
        (
            {"OMP_WAIT_POLICY": "ACTIVE", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "9"},
            {"OMP_WAIT_POLICY": "ACTIVE", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "9"},
        ),
    ],
)
def test_runtimes_are_set_up_unless_the_operator_says_otherwise(given, then, monkeypatch):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    for name in names:
        monkeypatch.setenv(name, "")  # so that what the call sets is taken back afterwards
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    config.prepare_runtimes()
    assert {name: os.environ[name] for name in names if name in os.environ} == then
