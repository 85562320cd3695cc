"""Who may import whom: dependencies point down only, and torch, sockets and clocks each have their place."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CLIENT = ROOT / "clients" / "python"
SUPERVISOR = ("broker.supervisor",)
OURS = ("ringbuf", "broker", "ringbroker")
CLOCKS = {"time", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time_ns", "clock_gettime_ns"}
CLOCK_METHODS = {"now", "utcnow", "today"}


def modules():
    """Every module of ours: its dotted name and its file."""
    for base, package in ((ROOT, "ringbuf"), (ROOT, "broker"), (CLIENT, "ringbroker")):
        for path in sorted((base / package).rglob("*.py")):
            yield ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__"), path


MODULES = dict(modules())


def imports_of(tree):
    """The dotted names that a module imports, wherever in it; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name, *packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def is_allowed(module, imported):
    """Say whether `module` may import `imported`."""
    if is_in(imported, *OURS):
        above = is_in(imported, "ringbuf") or imported.split(".")[0] == module.split(".")[0]
        return above or (module == "broker.cli" and is_in(imported, "ringbroker"))
    if is_in(imported, "torch"):
        return is_in(module, "broker.engine", "broker.demo")
    if is_in(imported, "socket", "socketserver", "asyncio"):
        return is_in(
            module,
            "broker.loop",
            "broker.listener",
            "broker.admin",
            "broker.control",
            "broker.notify",
            "broker.reception",
            *SUPERVISOR,
            "ringbroker",
        )
    if is_in(imported, "time"):
        return is_in(module, *SUPERVISOR, "broker.worker_process", "broker.cli", "ringbroker")
    return not is_in(imported, "multiprocessing", "spec", "tests", "bench")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    tree = ast.parse(MODULES[module].read_text())
    assert [name for name in imports_of(tree) if not is_allowed(module, name)] == []


@pytest.mark.parametrize("module", [name for name in MODULES if not is_in(name, "broker.supervisor", "ringbroker")])
def test_clocks_are_passed_in(module):
    """Nor does anybody reach a clock around `import time`: no `datetime.now()`, no `os.times()`."""
    tree = ast.parse(MODULES[module].read_text())
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    used = {func.attr for func in calls if isinstance(func, ast.Attribute)}
    assert used & (CLOCKS | CLOCK_METHODS) == set()


def test_the_rules_see_what_they_forbid():
    """The checks themselves: each rule refuses one edge and allows its neighbour."""
    assert not is_allowed("ringbuf.segment", "broker.ring")
    assert not is_allowed("ringbroker.client", "broker")
    assert not is_allowed("broker.supervisor", "ringbroker")
    assert is_allowed("broker.cli", "ringbroker")
    assert not is_allowed("broker.worker", "torch")
    assert is_allowed("broker.engine.plan", "torch.export")
    assert not is_allowed("broker.session", "socket")
    assert not is_allowed("ringbuf.segment", "multiprocessing.shared_memory")
    assert not is_allowed("broker.batcher", "time")
    assert list(imports_of(ast.parse("def f():\n    from a.b import c\n    import d.e"))) == ["a.b", "a.b.c", "d.e"]


@pytest.mark.parametrize("statement", ["import ringbroker", "import ringbuf.segment, ringbuf.wire.messages"])
def test_what_clients_import_loads_no_torch(statement):
    assert run_python(f"{statement}\nimport sys\nprint('torch' in sys.modules)") == "False"


def test_broker_version_starts_without_torch():
    code = (
        "import sys\nfrom broker.cli import main\n"
        "try:\n    main(['--version'])\nexcept SystemExit as exit:\n    assert exit.code == 0\n"
        "print('torch' in sys.modules)"
    )
    version, loads = run_python(code).splitlines()
    assert version.startswith("broker, version ")
    assert loads == "False"


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{CLIENT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
