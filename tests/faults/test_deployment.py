"""The files in deploy/, and containers: mount namespaces that share what the containers of a pod do."""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from contextlib import contextmanager
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.conftest import ROOT, START_TIMEOUT_S, broker_command
from tests.faults.deployed import ENVIRONMENT, TWICE, ends

DEPLOY = ROOT / "deploy"
ANSWER = "[[0.0, 2.0, 4.0, 6.0], [8.0, 10.0, 12.0, 14.0]]"

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root")


# --- pods ---


@contextmanager
def pod(*, shares_memory):
    """A function that starts a process in a container of its own, that is in a mount namespace: all have the same
    volume at /run, writable by everybody as Kubernetes makes it, and the same /dev/shm or each a new one.
    """
    volume = Path(tempfile.mkdtemp(prefix="rb-volume-"))
    memory = Path(tempfile.mkdtemp(prefix="rb-memory-", dir="/dev/shm"))
    for folder in (volume, memory):
        folder.chmod(0o777)
    processes = []

    def start(*command):
        of_memory = f"mount --bind {memory} /dev/shm" if shares_memory else "mount -t tmpfs -o size=64m memory /dev/shm"
        script = f'mount --bind {volume} /run && {of_memory} && exec "$@"'
        process = subprocess.Popen(
            ["unshare", "--mount", "--propagation=private", "sh", "-ec", script, "sh", *command],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
        left = [path.name for path in memory.iterdir()]
        shutil.rmtree(volume)
        shutil.rmtree(memory)
    assert left == []


@contextmanager
def served_pod(*, shares_memory):
    """A pod whose broker serves; gives a function that runs a client in another container."""
    path = "/run/own/broker.sock"
    with pod(shares_memory=shares_memory) as start:
        broker = start(*broker_command("serve", TWICE, "--socket", path))
        assert broker.stdout.readline() == f"serving on {path}\n"
        probe = start(sys.executable, "-m", "broker", "health", "--ready", "--socket", path)
        assert probe.communicate(timeout=START_TIMEOUT_S) == ("ready\n", None)

        def ask(kind):
            client = start(sys.executable, "-m", "tests.faults.pod_client", path, kind)
            return client.communicate(timeout=START_TIMEOUT_S)[0].strip()

        yield ask
        assert ends(broker) == 0


@is_root
@pytest.mark.parametrize("kind", ["path", "fd"])
def test_pod_that_shares_memory(kind):
    with served_pod(shares_memory=True) as ask:
        assert ask(kind) == ANSWER


@is_root
def test_pod_that_shares_the_socket_alone():
    with served_pod(shares_memory=False) as ask:
        assert ask("fd") == ANSWER
        assert ask("path") == "ATTACH_FAILED"


@is_root
def test_socket_right_in_the_volume():
    """Why the manifests put it in a folder below."""
    with pod(shares_memory=True) as start:
        broker = start("sh", "-c", '"$@" 2>&1', "sh", *broker_command("serve", TWICE, "--socket", "/run/broker.sock"))
        assert "SOCKET_INVALID" in broker.communicate(timeout=START_TIMEOUT_S)[0]
        assert broker.returncode == 1


# --- files ---


def test_units(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    command = tmp_path / "broker"  # in the place of the one that is installed
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for unit in (DEPLOY / "systemd").iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/ringbroker/bin/broker", str(command)))
    units = [str(tmp_path / name) for name in ("ringbroker.service", "ringbroker.socket")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_units_commands_are_ours():
    lines = (DEPLOY / "systemd" / "ringbroker.service").read_text().splitlines()
    commands = [line.partition("=")[2].split()[1:] for line in lines if line.startswith("Exec")]
    assert [command[0] for command in commands] == ["serve", "reload"]
    for command in commands:
        flags = [word for word in command if word.startswith("--")]
        told = subprocess.run(
            [sys.executable, "-m", "broker", command[0], "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert all(flag in told.stdout for flag in flags)


def test_dockerfile():
    """As far as it can be told without building it."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    last = max(number for number, (word, *_) in enumerate(words) if word == "FROM")
    build, result = words[:last], words[last:]
    assert [word for word, *_ in words].count("FROM") == 2
    sources = [source for word, *rest in build if word == "COPY" for source in rest[:-1]]
    ignore = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignore
    assert not {"apt-get", "gcc", "pip"} & {word for line in result for word in line}
    assert ["USER", "65532:65532"] in result
    assert ["ENTRYPOINT", '["broker"]'] in result
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "broker" in project["scripts"]
    assert {"serve", "onnx"} <= set(project["optional-dependencies"])
    assert "torch==" in (ROOT / "constraints.txt").read_text()


def test_image():
    engine = shutil.which("docker") or shutil.which("podman")
    if engine is None or subprocess.run([engine, "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("the image is not built: no container engine answers here")
    command = [engine, "build", "--quiet", "--file", "deploy/docker/Dockerfile", "."]
    image = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run(
        [engine, "run", "--rm", "--network=none", "--read-only", image, "inspect", "broker.demo:digits"], check=True
    )


MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_manifest_against_the_schemas(path, version):
    kubernetes_validate.validate(yaml.safe_load(path.read_text()), version, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifest_is_a_pod_that_works(path):
    """What the schemas do not see, and the tests above depend on."""
    spec = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
    (broker,), (service,) = spec["initContainers"], spec["containers"]
    assert broker["restartPolicy"] == "Always"
    (path_of_broker,), (path_of_service,) = ([each["value"] for each in one["env"]] for one in (broker, service))
    assert path_of_broker == path_of_service
    mounts = [{each["mountPath"]: each["name"] for each in one["volumeMounts"]} for one in (broker, service)]
    shared = set(mounts[0].items()) & set(mounts[1].items())
    assert {name for _, name in shared} <= {volume["name"] for volume in spec["volumes"]}
    assert (str(Path(path_of_broker).parent.parent)) in dict(shared)
    assert ("/dev/shm" in dict(shared)) == (path.stem == "shared-memory")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        command = broker[probe]["exec"]["command"]
        assert command[:2] == ["broker", "health"]
        assert ("--ready" in command) == (probe != "livenessProbe")
