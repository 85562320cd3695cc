"""The watch, where a reload failed because a model was not there: when it comes, nobody has to ask again."""

import shutil

import pytest

from ringbuf.errors import Code
from tests.conftest import ROOT, running_broker
from tests.faults.wire import until

MODEL = ROOT / "tests" / "faults" / "identity.onnx"


class Watched:
    """A broker that watches its file, which names one model."""

    def __init__(self, folder):
        self.folder = folder
        self.broker = None

    def name(self, source):
        (self.folder / "broker.toml").write_text(f"[[model]]\nname = 'm'\nsource = '{source}'\n")

    def wait_for_failure(self):
        until(lambda: (self.broker.status()["last_reload"] or {}).get("code") == Code.MODEL_NOT_FOUND)

    def wait_for(self, source):
        until(lambda: self.broker.status()["models"]["m"]["source"] == str(self.folder / source))


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path)
    shutil.copy(MODEL, tmp_path / "first.onnx")
    watched.name("first.onnx")
    with running_broker("--config", str(tmp_path / "broker.toml"), "--watch", folder=tmp_path) as watched.broker:
        yield watched
        assert watched.broker.stop() == 0


def test_a_model_that_was_named_before_it_came(watched):
    watched.name("to/come/second.onnx")
    watched.wait_for_failure()
    (watched.folder / "to" / "come").mkdir(parents=True)
    shutil.copy(MODEL, watched.folder / "to" / "come" / "second.onnx")
    watched.wait_for("to/come/second.onnx")


def test_what_serves_is_watched_while_the_file_is_wrong(watched):
    """The name that failed is taken back: the file that served, and went meanwhile, comes back last."""
    watched.name("to/come/second.onnx")
    watched.wait_for_failure()
    first = watched.folder / "first.onnx"
    first.rename(watched.folder / "away.onnx")
    watched.name("first.onnx")
    until(lambda: watched.broker.log.count("the reload failed") == 2)
    (watched.folder / "away.onnx").rename(first)
    until(lambda: watched.broker.status()["generation"] == 2)
