"""What commands print for people to read."""

import sys

from rich.console import Console
from rich.table import Table


def show(shown: Table) -> None:
    """Prints a table to standard output, with long lines where that is no terminal."""
    Console(width=None if sys.stdout.isatty() else 130).print(shown)
