"""The `broker` command.

    broker serve NAME=SOURCE ... | --config FILE   serve models on a Unix socket
    broker inspect SOURCE                          what serving a model would be like
    broker config check | show                     what is wrong with the configuration, and what is in effect
    broker models | status | health | reload       ask a live broker
    broker infer MODEL input.npy -o out.npy        one inference from files

torch is imported by `inspect` and by the processes that `serve` starts; numpy by `infer` alone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from broker import configuration, listing, log, operations
from broker.command import json_option, names_what_is_missing, reports_errors, socket_option
from broker.config import PoolConfig, ServeConfig, prepare_runtimes
from broker.configuration import Given
from broker.cpus import usable_cpus
from broker.engine.repository import versions_of
from broker.flags import config_option, given, serving_flags
from broker.options import apply_options, model_options, parse_source
from broker.tables import suggestion
from ringbuf.errors import Code, RingbrokerError

if TYPE_CHECKING:
    from ringbuf.wire.messages import Model, Signature

CONNECT_TIMEOUT_S = 5.0  # a broker that is not there by then is not starting


@click.group()
@click.version_option(package_name="ringbroker", prog_name="broker")
def main() -> None:
    """ringbroker: PyTorch models beside your service, through shared memory."""


main.add_command(operations.config)
main.add_command(operations.is_healthy)
main.add_command(operations.reload)
main.add_command(operations.status)


@main.command()
@serving_flags
@reports_errors
def serve(**flags: Any) -> None:
    """Serve models until SIGTERM.

    SOURCE is a file (an exported program, an AOTInductor package, TorchScript, ONNX), a folder MODEL or MODEL/VERSION,
    or a factory package.module:factory on the Python path or beside you.
    """
    said = given(**flags)
    config = configuration.read(said)
    log.configure(config.log_format)
    prepare_runtimes()
    with names_what_is_missing():
        import posix_ipc  # noqa: F401

        from broker.supervisor import serve as run

        for name in ("torch", *(["inotify_simple"] if config.watch else [])):  # which are not imported here, or later
            if find_spec(name) is None:
                raise ModuleNotFoundError(name=name)

    def read_again() -> tuple[ServeConfig, list[RingbrokerError]]:
        found = configuration.examine(said)
        return found.config, found.problems

    run(config, lambda generation: click.echo("\n".join(listing.start_lines(generation))), read_again)


@main.command("inspect")
@click.argument("model", metavar="[NAME=]SOURCE")
@config_option("The broker's file: MODEL is the name of one of its models.")
@model_options
@click.option("--threads", type=click.IntRange(1), help="Threads inside an op.  [default: the CPU quota]")
@json_option
@reports_errors
def inspect_model(model: str, *, config_path: str | None, threads: int | None, as_json: bool, **options: Any) -> None:
    """Load a model, try it out, and tell what serving it would be like: what is copied and why, how it is batched, and
    how large its ring is.
    """
    config, pool = ServeConfig((parse_source(model),), "", threads=threads), None
    if config_path is not None:
        config, pool = _of_file(model, config_path)
    (chosen,) = apply_options(config.models, options)
    threads = threads or (pool and pool.threads) or usable_cpus()
    log.configure("text")
    prepare_runtimes()
    with names_what_is_missing():
        from broker import inspection
        from broker.engine import models
    found = inspection.inspect(models.load(versions_of(chosen)[0], threads=threads), config, pool)
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(inspection.as_lines(found)))


def _of_file(name: str, config_path: str) -> tuple[ServeConfig, PoolConfig]:
    """The configuration with this model alone, and the pool that it would be in."""
    config = configuration.read(Given(config_path))
    names = [model.name for model in config.models]
    if name not in names:
        text = f"no model {name!r} is served{suggestion(name, names)}"
        raise RingbrokerError(Code.CONFIG_INVALID, text, config_path)
    pool = next(pool for pool in config.all_pools() if name in pool.models)
    return replace(config, models=(config.models[names.index(name)],)), pool


@main.command()
@socket_option
@json_option
@reports_errors
def models(socket_path: str, *, as_json: bool) -> None:
    """List the models of a live broker: names, versions, signatures."""
    import ringbroker

    with ringbroker.connect(socket_path, timeout=CONNECT_TIMEOUT_S) as client:
        served = client.models()
    if as_json:
        click.echo(json.dumps([listing.as_dict(model) for model in served], indent=2))
    else:
        click.echo("\n".join(line for model in served for line in listing.as_lines(model)))


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

    from broker import arrays

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
