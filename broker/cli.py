"""The `broker` command.

    broker serve NAME=SOURCE ...              serve models on a Unix socket
    broker inspect SOURCE                     what serving a model would be like
    broker models | status                    ask a live broker
    broker infer MODEL input.npy -o out.npy   one inference from files

torch is imported by `serve` and `inspect` alone, so the other commands start fast.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

import click

from broker import admin, arrays, listing, log
from broker.config import ServeConfig, prepare_runtimes
from broker.cpus import usable_cpus
from broker.engine.config import ModelConfig
from broker.engine.repository import read_repository
from broker.options import apply_options, model_options, parse_model, parse_source
from broker.stop import Stop
from ringbuf.address import default_socket_path
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Model, Signature

DEMO = ModelConfig(name="digits", source="broker.demo:digits")
CONNECT_TIMEOUT_S = 5.0  # a broker that is not there by then is not starting

MAX_THREADS = 1024  # more than a host has CPUs; a million crashes torch


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

threads_option = click.option(
    "--threads", type=click.IntRange(1, MAX_THREADS), help="Threads inside an op.  [default: the CPU quota]"
)


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Print a `RingbrokerError` as one line, and exit with 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except RingbrokerError as error:
            click.echo(f"broker: error {int(error.code)} {error}", err=True)
            sys.exit(1)

    return run


@contextmanager
def names_what_is_missing() -> Iterator[None]:
    """Say what to install where the broker's own packages are not there: a client's installation has no torch."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.ClickException(f"this needs {error.name}: pip install 'ringbroker[serve]'") from error


@click.group()
@click.version_option(version("ringbroker"), prog_name="broker")
def main() -> None:
    """ringbroker: PyTorch models beside your service, through shared memory."""


@main.command()
@click.argument("models", nargs=-1, metavar="[NAME=SOURCE]...")
@click.option("--repository", type=click.Path(exists=True, file_okay=False), help="Serve every model of this folder.")
@click.option("--demo", is_flag=True, help="Serve the built-in digits classifier as `digits`.")
@socket_option
@model_options
@click.option(
    "--slots",
    default=ServeConfig.default_slots,
    show_default=True,
    type=click.IntRange(1, ServeConfig.max_slots),
    help="Slots of a ring whose client does not say.",
)
@click.option(
    "--spin",
    default=ServeConfig.spin,
    show_default=True,
    metavar="auto|off|US",
    help="How long to spin after traffic before sleeping.",
)
@threads_option
@click.option(
    "--max-connections",
    default=ServeConfig.max_connections,
    show_default=True,
    type=click.IntRange(1),
    help="The most connections at a time.",
)
@click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How events are written to stderr.",
)
@reports_errors
def serve(
    models: tuple[str, ...],
    *,
    repository: str | None,
    demo: bool,
    socket_path: str,
    slots: int,
    spin: str,
    threads: int | None,
    max_connections: int,
    log_format: str,
    **options: Any,
) -> None:
    """Serve models until SIGTERM or Ctrl-C.

    SOURCE is a file (an exported program, an AOTInductor package, TorchScript, ONNX), a folder MODEL or MODEL/VERSION,
    or a factory package.module:factory on the Python path or beside you.
    """
    chosen = [parse_model(argument) for argument in models] + ([DEMO] if demo else [])
    if repository is not None:
        chosen += read_repository(Path(repository))
    if not chosen:
        raise click.UsageError("name at least one model as NAME=SOURCE, or try --demo")
    for name, count in Counter(model.name for model in chosen).items():
        if count > 1:
            raise click.UsageError(f"two models have the same name: {name}")
    config = ServeConfig(
        apply_options(chosen, options),
        socket_path,
        default_slots=slots,
        spin=spin,
        threads=threads,
        max_connections=max_connections,
    )
    try:
        config.spin_ns()
    except ValueError:
        raise click.BadParameter("auto, off, or microseconds", param_hint="--spin") from None
    log.configure(log_format)
    prepare_runtimes()
    stop = Stop()
    try:
        with names_what_is_missing():
            from broker.supervisor import serve as run  # torch takes seconds to import
        run(config, stop, lambda catalog: click.echo("\n".join(listing.start_lines(catalog, socket_path))))
    except BaseException:  # the interrupt of what was being loaded, or what that became on its way here
        if not stop.has_interrupted:
            raise


@main.command("inspect")
@click.argument("model", metavar="[NAME=]SOURCE")
@model_options
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reports_errors
def inspect_model(model: str, *, threads: int | None, as_json: bool, **options: Any) -> None:
    """Tell what serving a model would be like.

    The model is loaded and tried out: what is copied and why, how it is batched, how large its ring is. SOURCE is what
    `broker serve` takes.
    """
    (chosen,) = apply_options([parse_source(model)], options)
    config = ServeConfig((chosen,), "", threads=threads)
    log.configure("text")
    prepare_runtimes()
    with names_what_is_missing():
        from broker import inspection
        from broker.engine import models
    found = inspection.inspect(models.load(chosen, threads=threads or usable_cpus()), config)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(inspection.as_lines(found)))


@main.command()
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reports_errors
def models(socket_path: str, *, as_json: bool) -> None:
    """List what a live broker serves: names, versions, signatures."""
    import ringbroker

    with ringbroker.connect(socket_path, timeout=CONNECT_TIMEOUT_S) as client:
        served = client.models()
    if as_json:
        click.echo(json.dumps([listing.as_dict(model) for model in served], indent=2))
    else:
        click.echo("\n".join(line for model in served for line in listing.as_lines(model)))


@main.command()
@socket_option
@reports_errors
def status(socket_path: str) -> None:
    """Show the counters of a live broker, as JSON."""
    click.echo(json.dumps(admin.ask(socket_path, "status"), indent=2))


@main.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, metavar="[NAME=]FILE...")
@click.option(
    "-o",
    "--output",
    "output_path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the outputs to a .npz file, or a single one to a .npy file; else print.",
)
@click.option(
    "--timeout", default=30.0, show_default=True, type=click.FloatRange(0), help="Seconds, for everything together."
)
@socket_option
@reports_errors
def infer(model: str, inputs: tuple[str, ...], output_path: Path | None, timeout: float, socket_path: str) -> None:
    """Run MODEL once, on .npy files.

    There is one for each input, in their order or by name, of the whole shape that `broker models` shows; the batch
    axis counts the rows.
    """
    import ringbroker

    arrays.check_output(output_path)
    given = arrays.read_inputs(inputs)
    deadline_s = monotonic() + timeout
    with ringbroker.connect(socket_path, timeout=min(timeout, CONNECT_TIMEOUT_S)) as client:
        signature = _find_signature(client.models(deadline_s - monotonic()), model)
        arrays.check_output(output_path, signature.outputs)
        by_name = arrays.assign_inputs(given, signature)
        rows, maxima = arrays.measure(by_name, signature)
        with client.open(model, slots=rows, maxima=maxima, timeout=deadline_s - monotonic()) as opened:
            try:
                results = opened(*by_name.values(), timeout=deadline_s - monotonic())
            except TypeError as error:
                raise RingbrokerError(Code.WRONG_DTYPE, str(error)) from error
    if not isinstance(results, dict):
        results = {signature.outputs[0].name: results}
    arrays.write_outputs(results, output_path)


def _find_signature(served: list[Model], name: str) -> Signature:
    for model in served:
        if model.name == name:
            return model.signature
    names = ", ".join(model.name for model in served)
    raise RingbrokerError(Code.UNKNOWN_MODEL, f"the broker serves no model of that name; it serves {names}", name)
