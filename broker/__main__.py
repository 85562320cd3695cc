"""The `broker` command, and `python -m broker`."""

import sys


def main() -> None:
    """Run the command; `health` alone, without importing what the others need."""
    if sys.argv[1:2] == ["health"]:
        from broker import health

        sys.exit(health.main(sys.argv[2:]))
    from broker.cli import main as run

    run()


if __name__ == "__main__":
    main()
