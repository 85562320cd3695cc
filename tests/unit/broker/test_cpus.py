"""CPUs: affinity, and the quotas of both versions of cgroups, wherever in the tree they are set."""

import os

import pytest

from broker import cgroups, cpus


@pytest.fixture
def write_cgroups(monkeypatch, tmp_path):
    """A function that writes files of a cgroup tree, and what /proc says of us; 8 CPUs by affinity."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "_OURS", tmp_path / "ours")

    def write(ours, files):
        if ours is not None:
            (tmp_path / "ours").write_text(ours)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return write


@pytest.mark.parametrize(
    ("cpu_max", "count"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("nonsense", 8),
    ],
)
def test_a_container_sees_its_quota_at_the_root(write_cgroups, cpu_max, count):
    write_cgroups("0::/\n", {"cpu.max": cpu_max})
    assert cpus.usable_cpus() == count


def test_nothing_is_known_but_the_affinity(write_cgroups):
    assert cpus.usable_cpus() == 8


def test_the_least_quota_of_all_that_hold_us(write_cgroups):
    tree = {"a.slice/cpu.max": "300000 100000", "a.slice/b.service/cpu.max": "max 100000"}
    write_cgroups("0::/a.slice/b.service\n", tree)
    assert cpus.usable_cpus() == 3
    write_cgroups(None, {"a.slice/b.service/cpu.max": "100000 50000"})
    assert cpus.usable_cpus() == 2


def test_version_1(write_cgroups):
    ours = "4:memory:/x\n3:cpu,cpuacct:/docker/7\n0::/\n"
    tree = {"cpu,cpuacct/docker/7/cpu.cfs_quota_us": "-1", "cpu,cpuacct/docker/7/cpu.cfs_period_us": "100000"}
    write_cgroups(ours, tree)
    assert cpus.usable_cpus() == 8
    tree = {"cpu,cpuacct/docker/cpu.cfs_quota_us": "400000", "cpu,cpuacct/docker/cpu.cfs_period_us": "100000"}
    write_cgroups(ours, tree)
    assert cpus.usable_cpus() == 4
