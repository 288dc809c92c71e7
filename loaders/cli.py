"""The ``cdw`` command: its words and nothing else; the work is done in the modules beside it."""

import os
import sys

import typer

from loaders.errors import CdwError

app = typer.Typer(
    name="cdw",
    help="Clinical Data Warehouse: simulate, decode, load and look.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Run ``cdw``; exit 0 when done, 1 when failed, 2 when wrongly used."""
    # Warehouse files, topic directories and reject files hold patient data: their owner's alone.
    os.umask(0o077)
    try:
        app()
    except CdwError as error:
        sys.stderr.write(f"cdw: {error}\n")
        sys.exit(1)
