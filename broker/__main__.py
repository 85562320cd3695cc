"""`python -m broker` is the `broker` command."""

from broker.entry import main

main()
