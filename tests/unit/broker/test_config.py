"""What an operator can set, and what is found out where nothing was set."""

import os

import pytest

from broker import config
from broker.config import ServeConfig, default_socket_path, parse_model, usable_cpus
from ringbuf.errors import Code, RingbrokerError


def spin_ns(spin):
    return ServeConfig((), "path", spin=spin).spin_ns()


def test_the_socket_path_follows_the_environment(monkeypatch):
    monkeypatch.delenv("RINGBROKER_SOCKET", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert default_socket_path() == f"/tmp/ringbroker-{os.geteuid()}/broker.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_socket_path() == "/run/user/7/ringbroker/broker.sock"
    monkeypatch.setenv("RINGBROKER_SOCKET", "/elsewhere.sock")
    assert default_socket_path() == "/elsewhere.sock"
    monkeypatch.setenv("RINGBROKER_SOCKET", "")
    assert default_socket_path() == "/run/user/7/ringbroker/broker.sock"


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("nonsense", 8),
        (None, 8),
    ],
)
def test_usable_cpus_is_the_smaller_of_affinity_and_quota(monkeypatch, tmp_path, cpu_max, cpus):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(config, "_CGROUP_CPU", tmp_path / "cpu.max")
    if cpu_max is not None:
        (tmp_path / "cpu.max").write_text(cpu_max + "\n")
    assert usable_cpus() == cpus


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
    ("argument", "model"),
    [
        ("m=file.pt2", ("m", "file.pt2")),
        ("m=a.b:c", ("m", "a.b:c")),
        ("m=odd=name.pt2", ("m", "odd=name.pt2")),
    ],
)
def test_parse_model(argument, model):
    assert parse_model(argument) == model


@pytest.mark.parametrize("argument", ["", "m", "m=", "=file.pt2", "="])
def test_parse_model_refuses(argument):
    with pytest.raises(RingbrokerError) as caught:
        parse_model(argument)
    assert (caught.value.code, caught.value.path) == (Code.SIGNATURE_INVALID, argument)


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_openmp_spins_briefly_unless_the_operator_says_otherwise(given, then, monkeypatch):
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    for name in names:
        monkeypatch.setenv(name, "")  # so that what the call sets is taken back afterwards
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    config.bound_openmp_spin()
    assert {name: os.environ[name] for name in names if name in os.environ} == then
