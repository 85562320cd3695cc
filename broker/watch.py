"""The watch: notices that a model or the configuration's file was replaced.

It watches folders, because a file that is replaced by a rename is another file. What counts is a file that was written
and closed, or moved here, and a new link or folder; one that is still being written counts for nothing. After the last
of it the watch waits for a moment, so that several files are one change. Of a place that is not there, the nearest
folder above it is watched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from inotify_simple import Event, INotify, flags

from broker.config import ServeConfig
from broker.engine.config import is_factory
from broker.engine.repository import CONFIG_FILE

log = logging.getLogger("broker.watch")

_SETTLE_NS = 500_000_000  # between the files of one change, also on a slow disk
_MASK = flags.CLOSE_WRITE | flags.MOVED_TO | flags.CREATE | flags.MODIFY | flags.ONLYDIR
_KUBERNETES = "..data"  # the link that is replaced where a file comes from a ConfigMap

_IMPOSSIBLE = (OSError, RuntimeError, ValueError)  # of a path: too long, not ours to look at, a circle, or none at all

Places = dict[Path, set[str]]
"""By folder, the names that count; none: all of them."""


class Watch:
    """One inotify descriptor; what `fileno` gives is readable when there is something to `heed`."""

    def __init__(self, config: ServeConfig) -> None:
        """Raises OSError where the user's inotify instances are used up."""
        self._inotify = INotify(nonblocking=True)
        self._folders: dict[int, tuple[Path, set[str]]] = {}
        self._due_ns: int | None = None
        self.follow(config)

    def fileno(self) -> int:
        """What to wait on."""
        return int(self._inotify.fileno())

    def close(self) -> None:
        """Watch no more."""
        self._inotify.close()

    def follow(self, *configs: ServeConfig) -> None:
        """Watch everything that these configurations are read from, and nothing else."""
        self._configs = configs
        folders: dict[int, tuple[Path, set[str]]] = {}
        for folder, names in sorted(places(*configs).items()):  # what holds a folder before it, or its coming is missed
            try:
                folders[self._inotify.add_watch(folder, _MASK)] = folder, names
            except FileNotFoundError:
                continue  # what holds it is watched
            except OSError as error:
                log.warning("a folder cannot be watched", extra={"folder": folder, "error": error.strerror})
        for gone in set(self._folders) - set(folders):
            with suppress(OSError):  # it went with its folder
                self._inotify.rm_watch(gone)
        self._folders = folders

    def heed(self, now_ns: int) -> None:
        """Take note of what happened."""
        for event in self._inotify.read(timeout=0):
            is_change = event.mask & flags.Q_OVERFLOW or self._is_change(event)
            is_write = event.mask & flags.MODIFY and self._due_ns is not None
            if is_change or is_write:  # the other files of a change may still be written
                self._due_ns = now_ns + _SETTLE_NS

    def is_due(self, now_ns: int) -> bool:
        """Whether something was replaced, and the moment is over; True once for every change."""
        if self._due_ns is None or now_ns < self._due_ns:
            return False
        self._due_ns = None
        return True

    def _is_change(self, event: Event) -> bool:
        folder, names = self._folders.get(event.wd, (None, set()))
        if folder is None or event.mask & flags.MODIFY or not _counts(event.name, names):
            return False
        path = folder / event.name
        is_folder = event.mask & flags.ISDIR
        if is_folder:
            self.follow(*self._configs)  # before anything is written in it
        if not event.mask & flags.CREATE:
            return True
        return bool(_entries(path)) if is_folder else _is_link(path)


def places(*configs: ServeConfig) -> Places:
    """Where everything lies that these are read from: their files, models, weights, and all these folders."""
    found: Places = {}
    for config in configs:
        for path, depth in _named(config):
            with suppress(*_IMPOSSIBLE):
                _add(found, path, depth)
    return found


def _named(config: ServeConfig) -> Iterator[tuple[Path, int]]:
    """Its paths, and for those that may be folders how many levels of them count."""
    if config.config_path is not None:
        yield Path(config.config_path), 0
    if config.repository is not None:
        yield Path(config.repository), 3
    for model in config.models:
        if not is_factory(model.source):
            yield Path(model.source), 2
        if model.weights is not None:
            yield Path(model.weights), 0


def _add(found: Places, path: Path, depth: int) -> None:
    """A path by its name, and its folder by its own; so on upwards, to one that is there. A folder with all in it."""
    path = path.absolute()
    for each in (path, *path.parents):
        names = found.setdefault(each.parent.resolve(), {_KUBERNETES})
        if names:
            names.add(each.name)
        if each != path and each.exists():
            break
    if depth and path.is_dir():
        found[path.resolve()] = set()
        _add(found, path.parent / CONFIG_FILE, 0)
        for entry in _entries(path):
            if entry.is_dir():
                _add(found, entry, depth - 1)


def _counts(name: str, names: Iterable[str]) -> bool:
    return name in names or (not names and (name == _KUBERNETES or not name.startswith(".")))


def _is_link(path: Path) -> bool:
    """Whether it is symbolic, or of a file that has another name, too: those are whole when they are made."""
    with suppress(OSError):  # it is gone again
        return path.is_symlink() or path.stat().st_nlink > 1
    return False


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []
