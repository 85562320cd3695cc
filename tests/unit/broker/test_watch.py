"""The watch: what counts as a change of what a configuration names, also of what is not there yet."""

import os
import select

import pytest

from broker.config import ServeConfig
from broker.engine.config import ModelConfig
from broker.watch import Watch

LATER_NS = 10**12


def naming(*sources):
    return ServeConfig(tuple(ModelConfig(name=f"m{at}", source=str(each)) for at, each in enumerate(sources)), "path")


@pytest.fixture
def watch(tmp_path):
    """One that follows a model that is there."""
    (tmp_path / "there.pt2").touch()
    watch = Watch(naming(tmp_path / "there.pt2"))
    yield watch
    watch.close()


def has_changed(watch):
    """Whether what happened until now is a change."""
    while select.select([watch.fileno()], [], [], 0)[0]:
        watch.heed(0)
    return watch.is_due(LATER_NS)


def test_a_replaced_file_counts_once(watch, tmp_path):
    (tmp_path / "new").write_text("a")
    assert not has_changed(watch)
    (tmp_path / "new").rename(tmp_path / "there.pt2")
    assert has_changed(watch)
    assert not has_changed(watch)


def test_a_model_whose_folders_come_later(watch, tmp_path):
    model = tmp_path / "not" / "yet" / "there" / "m.pt2"
    watch.follow(naming(model))
    (tmp_path / "not").mkdir()
    assert not has_changed(watch)
    (tmp_path / "not" / "yet").mkdir()
    (tmp_path / "not" / "other").touch()
    assert not has_changed(watch)
    model.parent.mkdir()
    assert not has_changed(watch)
    with model.open("w") as file:
        assert not has_changed(watch)
        file.write("a")
    assert has_changed(watch)


def test_folders_that_come_with_the_model_in_them(watch, tmp_path):
    model = tmp_path / "models" / "m" / "m.pt2"
    watch.follow(naming(model))
    (tmp_path / "new" / "m").mkdir(parents=True)
    (tmp_path / "new" / "m" / "m.pt2").touch()
    assert not has_changed(watch)
    (tmp_path / "new").rename(tmp_path / "models")
    assert has_changed(watch)
    model.write_text("a")
    assert has_changed(watch), "it is watched where it is now"


def test_folders_that_go_and_come_again(watch, tmp_path):
    model = tmp_path / "models" / "m" / "m.pt2"
    model.parent.mkdir(parents=True)
    model.touch()
    watch.follow(naming(model))
    model.parent.parent.rename(tmp_path / "away")
    watch.follow(naming(model))  # as a reload does that finds it gone
    has_changed(watch)
    model.parent.mkdir(parents=True)
    has_changed(watch)
    model.write_text("a")
    assert has_changed(watch)


def test_several_configurations(watch, tmp_path):
    wanted = tmp_path / "b" / "m.pt2"
    watch.follow(naming(tmp_path / "there.pt2"), naming(wanted))
    (tmp_path / "there.pt2").write_text("a")
    assert has_changed(watch)
    wanted.parent.mkdir()
    assert not has_changed(watch)
    wanted.write_text("a")
    assert has_changed(watch), "a folder that comes leaves both watched"
    (tmp_path / "there.pt2").write_text("a")
    assert has_changed(watch)


def test_a_hard_link_is_whole_when_it_is_made(watch, tmp_path):
    (tmp_path / "there.pt2").rename(tmp_path / "backup.pt2")
    assert not has_changed(watch)
    os.link(tmp_path / "backup.pt2", tmp_path / "there.pt2")
    assert has_changed(watch)


def test_paths_that_cannot_be(watch, tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    impossible = (tmp_path / ("x" * 300) / "m.pt2", f"{tmp_path}/a\0b/m.pt2", tmp_path / "circle" / "m.pt2")
    watch.follow(naming(*impossible, tmp_path / "there.pt2"))
    (tmp_path / "there.pt2").write_text("a")
    assert has_changed(watch)
