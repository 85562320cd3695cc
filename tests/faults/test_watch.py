"""Reloads because files changed, while a client infers and notices nothing."""

import time

import pytest
import torch

from tests.faults.reloadable import Bystander, serving
from tests.faults.wire import until

SETTLED_S = 1.5  # three times what the watch waits for: a change that has not been taken for one by then is none


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Files of y = 2 * x and y = 3 * x, by their factor."""
    folder = tmp_path_factory.mktemp("exported")
    files = {}
    for factor in (2, 3):
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(Times(factor), (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
        files[factor] = folder / f"times{factor}.pt2"
        torch.export.save(program, files[factor])
    return files


def settled(served):
    """No reload has begun, and none is due."""
    before = served.reloads
    time.sleep(SETTLED_S)
    return served.reloads == before


def watching(tmp_path, exported):
    """A broker that watches one file, which doubles."""
    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "m.pt2"
    model.write_bytes(exported[2].read_bytes())
    (tmp_path / "broker.toml").write_text("[[model]]\nname = 'm'\nsource = 'models/m.pt2'\n")
    return model


def test_a_file_that_is_replaced_by_a_rename_is_one_reload(tmp_path, exported):
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served, Bystander(served.broker.socket_path) as bystander:
        fresh = model.with_suffix(".tmp")
        fresh.write_bytes(exported[3].read_bytes())
        assert settled(served)
        fresh.rename(model)
        served.wait_for(2)
        assert served.answer() == 3
        assert settled(served)
        assert served.reloads == 1
        until(lambda: bystander.factors[-1] == 3)
        assert sorted(bystander.factors) == bystander.factors


def test_several_files_at_once_are_one_reload(tmp_path, exported):
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served:
        for count in range(3):
            fresh = model.with_suffix(f".{count}")
            fresh.write_bytes(exported[3].read_bytes())
            fresh.rename(model)
            served.config.write_text(served.config.read_text() + f"# {count}\n")
        served.wait_for(2)
        assert served.answer() == 3
        assert settled(served)
        assert served.reloads == 1


def test_a_file_that_is_moved_away_is_none_until_it_is_back(tmp_path, exported):
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served, Bystander(served.broker.socket_path):
        away = tmp_path / "away.pt2"
        model.rename(away)
        assert settled(served)
        assert served.reloads == 0
        away.write_bytes(exported[3].read_bytes())
        assert settled(served)
        away.rename(model)
        served.wait_for(2)
        assert served.answer() == 3


def test_a_version_that_is_still_written_is_not_served(tmp_path, exported):
    (tmp_path / "models" / "m" / "1").mkdir(parents=True)
    (tmp_path / "models" / "m" / "1" / "model.pt2").write_bytes(exported[2].read_bytes())
    (tmp_path / "broker.toml").write_text("[server]\nrepository = 'models'\nwatch = true\n")
    whole = exported[3].read_bytes()
    with serving(tmp_path) as served, Bystander(served.broker.socket_path):
        folder = tmp_path / "models" / "m" / "2"
        folder.mkdir()
        assert settled(served)
        with (folder / "model.pt2").open("wb") as file:
            for part in (whole[:100], whole[100:-100], whole[-100:]):
                file.write(part)
                file.flush()
                assert settled(served)
        assert served.reloads == 0
        served.wait_for(2)
        assert served.answer() == 3
        assert served.reloads == 1


def test_the_folder_of_a_file_is_replaced(tmp_path, exported):
    """As with a rename of a folder, or the link that Kubernetes puts in place for a ConfigMap."""
    model = watching(tmp_path, exported)
    with serving(tmp_path, "--watch") as served:
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        (fresh / "m.pt2").write_bytes(exported[3].read_bytes())
        model.parent.rename(tmp_path / "old")
        fresh.rename(model.parent)
        served.wait_for(2)
        assert served.answer() == 3
        link = tmp_path / "..new"
        link.symlink_to("old")
        assert settled(served)
        link.rename(tmp_path / "..data")
        served.wait_for(3)
