"""Memory: the host's, and the limits of both versions of cgroups, wherever in the tree they are set."""

import os

import pytest

from broker import cgroups, ram

HOST_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("ours", "files", "limit"),
    [
        ("0::/\n", {}, HOST_BYTES),
        ("0::/\n", {"memory.max": "max"}, HOST_BYTES),
        ("0::/\n", {"memory.max": "67108864"}, 67108864),
        ("0::/\n", {"memory.max": "nonsense"}, HOST_BYTES),
        ("0::/a/b\n", {"memory.max": "7000000", "a/memory.max": "5000000", "a/b/memory.max": "max"}, 5000000),
        ("4:memory:/x\n3:cpu:/y\n", {"memory/x/memory.limit_in_bytes": "9000000"}, 9000000),
        ("4:memory:/x\n", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, HOST_BYTES),
    ],
)
def test_the_least_of_all(ours, files, limit, monkeypatch, tmp_path):
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "_OURS", tmp_path / "ours")
    (tmp_path / "ours").write_text(ours)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert ram.usable_bytes() == limit
