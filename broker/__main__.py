"""`python -m broker` is the `broker` command."""

from broker.cli import main

main(prog_name="broker")
