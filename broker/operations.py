"""The operator's commands: what a live broker does, a reload, and what the configuration says."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from broker import admin, configuration, configuration_text, health, status_text
from broker.command import error_line, json_option, reports_errors, socket_option
from broker.flags import given, serving_flags


@click.command()
@socket_option
@json_option
@reports_errors
def status(socket_path: str, *, as_json: bool) -> None:
    """Show what a live broker does: its pools and workers, its models and their versions, the last reload."""
    told = admin.ask(socket_path, "status")
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(status_text.as_lines(told)))


@click.command()
@socket_option
@click.option("--timeout", default=600.0, show_default=True, type=click.FloatRange(0), help="Seconds.")
@reports_errors
def reload(socket_path: str, timeout: float) -> None:
    """Let a live broker read its configuration and its models anew, and wait until they are served.

    Where that fails, what served goes on, and the exit code is 1.
    """
    told = admin.ask(socket_path, "reload", timeout)
    if "error" in told:
        click.echo(
            f"broker: the reload failed, and what served goes on: error {told['code']} {told['error']}", err=True
        )
        sys.exit(1)
    click.echo(f"generation {told['generation']} serves")


@click.command("health")
@socket_option
@click.option("--ready", is_flag=True, help="Also that each pool has a worker, and the broker is not stopping.")
def is_healthy(socket_path: str, *, ready: bool) -> None:
    """Tell whether a broker lives: the exit code is 0, or 1."""
    sys.exit(health.probe(socket_path, ready))


@click.group()
def config() -> None:
    """What `broker serve` with these arguments would do."""


@config.command()
@serving_flags
@reports_errors
def check(**flags: Any) -> None:
    """Tell everything that is wrong, as far as it can be seen without loading a model; the exit code is 1 then."""
    found = configuration.examine(given(**flags))
    for problem in found.problems:
        click.echo(error_line(problem), err=True)
    if found.problems:
        sys.exit(1)
    names = ", ".join(model.name for model in found.config.models)
    click.echo(f"nothing is wrong; the models are {names}")


@config.command()
@serving_flags
@json_option
@reports_errors
def show(*, as_json: bool, **flags: Any) -> None:
    """Show every setting that is in effect, as the file would say it, and where it comes from."""
    said = given(**flags)
    found = configuration.examine(said)
    for problem in found.problems:
        raise problem
    told = configuration_text.as_dict(found, said)
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(configuration_text.as_lines(told)))
