"""``snd`` and ``python -m sndcli``."""

from __future__ import annotations


def main() -> None:
    """Runs the command line."""
    from sndcli.app import app

    app()


if __name__ == "__main__":
    main()
