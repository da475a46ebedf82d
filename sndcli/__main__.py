"""``snd`` and ``python -m sndcli``."""

from __future__ import annotations


def main() -> None:
    """Runs the command line."""
    from sndcli.cli import terminal
    from sndcli.cli.app import app
    from sndcli.runs.memory import keep_freed_memory

    keep_freed_memory()
    terminal.prepare()
    app()


if __name__ == "__main__":
    main()
