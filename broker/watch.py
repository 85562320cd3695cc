"""The watch: notices that a model or the configuration's file was replaced.

It watches folders, because a file that is replaced by a rename is another file. What counts is a file that was written
and closed, or moved here, and a new link or folder; one that is still being written counts for nothing. After the last
of it the watch waits for a moment, so that several files are one change.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
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

    def follow(self, config: ServeConfig) -> None:
        """Watch everything that a configuration is read from, and nothing else."""
        self._config = config
        folders: dict[int, tuple[Path, set[str]]] = {}
        for folder, names in places(config).items():
            try:
                folders[self._inotify.add_watch(folder, _MASK)] = folder, names
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
            self.follow(self._config)  # before anything is written in it
        if not event.mask & flags.CREATE:
            return True
        return bool(_entries(path)) if is_folder else path.is_symlink()


def places(config: ServeConfig) -> Places:
    """Where everything lies that a configuration is read from: its file, models, weights, and all these folders."""
    found: Places = {}
    if config.config_path is not None:
        _add_path(found, Path(config.config_path))
    if config.repository is not None:
        _add_folder(found, Path(config.repository), depth=2)
    for model in config.models:
        source = Path(model.source)
        if source.is_dir():
            _add_folder(found, source, depth=1)
            _add_path(found, source.parent / CONFIG_FILE)
        elif not is_factory(model.source):
            _add_path(found, source)
        if model.weights is not None:
            _add_path(found, Path(model.weights))
    return found


def _add_path(found: Places, path: Path) -> None:
    """A path by its name, and its folder by its own."""
    path = path.absolute()
    for each in (path, path.parent):
        names = found.setdefault(each.parent.resolve(), {_KUBERNETES})
        if names:
            names.add(each.name)


def _add_folder(found: Places, folder: Path, depth: int) -> None:
    """A folder with everything in it."""
    _add_path(found, folder)
    found[folder.resolve()] = set()
    for each in _entries(folder) if depth else []:
        if each.is_dir():
            _add_folder(found, each, depth - 1)


def _counts(name: str, names: Iterable[str]) -> bool:
    return name in names or (not names and (name == _KUBERNETES or not name.startswith(".")))


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):
        return list(folder.iterdir())
    return []
