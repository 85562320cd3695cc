"""The `broker` script. A health probe comes every few seconds, so it is answered from here, before click and the rest
are imported; everything else is `broker.cli`'s.
"""

import sys


def main() -> None:
    """Run `sys.argv`."""
    if sys.argv[1:2] == ["health"]:
        from broker import health

        if (asked := health.parse(sys.argv[2:])) is not None:
            sys.exit(health.probe(*asked))
    from broker.cli import main as run

    run(prog_name="broker")
