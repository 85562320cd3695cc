"""What the commands of `broker` have in common: how they tell errors, and how they find a broker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click

from ringbuf.address import default_socket_path
from ringbuf.errors import RingbrokerError


def _refuse_empty(_context: click.Context, _option: click.Parameter, path: str) -> str:
    if not path:  # Linux would bind a name of its own choice, which every user may connect to
        raise click.BadParameter("it is empty")
    return path


socket_option = click.option(
    "--socket",
    "socket_path",
    metavar="PATH",
    default=default_socket_path,
    show_default="$RINGBROKER_SOCKET, else one for each user",
    callback=_refuse_empty,
    help="The broker's Unix socket.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def error_line(error: RingbrokerError) -> str:
    """An error as every command tells it."""
    return f"broker: error {int(error.code)} {error}"


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print a `RingbrokerError` as one line, and exit with 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except RingbrokerError as error:
            click.echo(error_line(error), err=True)
            sys.exit(1)

    return run


@contextmanager
def names_what_is_missing() -> Iterator[None]:
    """Say what to install where the broker's own packages are not there: a client's installation has no torch."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(f"this needs {error.name}: pip install 'ringbroker[serve]'") from error
