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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from broker import admin, arrays, log
from broker.config import ServeConfig, prepare_runtimes
from broker.cpus import usable_cpus
from broker.engine.config import ModelConfig
from broker.engine.repository import read_repository
from broker.engine.signature import written
from broker.options import apply_options, model_options, parse_model, parse_source
from ringbuf.address import default_socket_path
from ringbuf.errors import Code, RingbrokerError
from ringbuf.wire.messages import Model, Signature, Tensor

if TYPE_CHECKING:
    from broker.generation import Generation

DEMO = ModelConfig(name="digits", source="broker.demo:digits")
CONNECT_TIMEOUT_S = 5.0  # a broker that is not there by then is not starting

socket_option = click.option(
    "--socket", "socket_path", default=default_socket_path, show_default="per user", help="The broker's Unix socket."
)

threads_option = click.option(
    "--threads", type=click.IntRange(1), help="Threads inside an op.  [default: the CPU quota]"
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
    "--workers",
    default=ServeConfig.workers,
    show_default=True,
    type=click.IntRange(1),
    help="Processes that run the models, with the weights in common.",
)
@click.option(
    "--max-connections",
    default=ServeConfig.max_connections,
    show_default=True,
    type=click.IntRange(1),
    help="The most connections at a time.",
)
@click.option("--log-format", default="text", show_default=True, type=click.Choice(["text", "json"]))
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
    workers: int,
    max_connections: int,
    log_format: str,
    **options: Any,
) -> None:
    """Serve models until SIGTERM.

    SOURCE is a file (an exported program, an AOTInductor package, TorchScript, ONNX), a folder MODEL or MODEL/VERSION,
    or a factory package.module:factory on the Python path or beside you.
    """
    chosen = [parse_model(argument) for argument in models] + ([DEMO] if demo else [])
    if repository is not None:
        chosen += read_repository(Path(repository))
    if not chosen:
        raise click.UsageError("name at least one model as NAME=SOURCE, or try --demo")
    if len({model.name for model in chosen}) < len(chosen):
        raise click.UsageError("two models have the same name")
    config = ServeConfig(
        apply_options(chosen, options),
        socket_path,
        default_slots=slots,
        spin=spin,
        threads=threads,
        max_connections=max_connections,
        workers=workers,
        log_format=log_format,
    )
    try:
        config.spin_ns()
    except ValueError:
        raise click.BadParameter("auto, off, or microseconds", param_hint="--spin") from None
    log.configure(log_format)
    prepare_runtimes()
    with names_what_is_missing():
        import posix_ipc  # noqa: F401

        from broker.supervisor import serve as run

        if find_spec("torch") is None:  # which this process does not import
            raise ModuleNotFoundError(name="torch")
    run(config, _announce)


@main.command("inspect")
@click.argument("model", metavar="[NAME=]SOURCE")
@model_options
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@reports_errors
def inspect_model(model: str, *, threads: int | None, as_json: bool, **options: Any) -> None:
    """Load a model, try it out, and tell what serving it would be like: what is copied and why, how it is batched, and
    how large its ring is.
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
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@reports_errors
def models(socket_path: str, *, as_json: bool) -> None:
    """List the models of a live broker: names, versions, signatures."""
    import ringbroker

    with ringbroker.connect(socket_path, timeout=CONNECT_TIMEOUT_S) as client:
        served = client.models()
    if as_json:
        click.echo(json.dumps([_model_as_dict(model) for model in served], indent=2))
        return
    for model in served:
        click.echo(f"{model.name}  versions {', '.join(model.versions)}  pool {model.pool}")
        for direction, tensors in (("in ", model.signature.inputs), ("out", model.signature.outputs)):
            for tensor in tensors:
                click.echo(f"  {direction} {tensor.name}: {written(tensor)}")
        for dim, maximum in model.signature.dims.items():
            click.echo(f"  dim {dim}: {'any size' if maximum is None else f'1 to {maximum}'}")


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
    """Run MODEL once, on .npy files: one for each input, in their order, or by name.

    Each has the input's whole shape, as `broker models` shows it; the batch axis counts the rows.
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


def _model_as_dict(model: Model) -> dict[str, Any]:
    def tensors(side: tuple[Tensor, ...]) -> dict[str, str]:
        return {tensor.name: written(tensor) for tensor in side}

    signature = model.signature
    return {
        "name": model.name,
        "versions": list(model.versions),
        "pool": model.pool,
        "inputs": tensors(signature.inputs),
        "outputs": tensors(signature.outputs),
        "dims": signature.dims,
    }


def _announce(generation: Generation) -> None:
    socket_path = generation.config.socket_path
    click.echo(f"serving on {socket_path}")
    for model in generation.loaded:
        sides = (model.inputs, model.outputs)
        ins, outs = (", ".join(f"{name}: {tensor}" for name, tensor in side.items()) for side in sides)
        click.echo(f"  {model.model}  ({ins}) -> ({outs})  from {model.source}")
    first = generation.loaded[0]
    files = "input.npy" if len(first.inputs) == 1 else " ".join(f"{name}={name}.npy" for name in first.inputs)
    click.echo(f"call it:  broker infer {first.model} {files} --socket {socket_path}")
    click.echo(f"     or:  ringbroker.connect({socket_path!r}).open({first.model!r})")
    sys.stdout.flush()
