"""Results of a benchmark of several axes, kept in a file as each axis ends."""

import json
from collections.abc import Callable
from pathlib import Path


def print_axes(
    axes: list[str], along: Callable[[str], object], machine: str, usual: dict[str, int], store: Path | None
) -> None:
    """Measures every axis in turn and prints all as JSON; those of a file of results that is there stay in it."""
    found = json.loads(store.read_text())["axes"] if store is not None and store.exists() else {}
    for axis in axes:
        found[axis] = along(axis)
        text = json.dumps({"machine": machine, "usual": usual, "axes": found}, indent=2)
        if store is not None:
            store.write_text(text + "\n")
    print(text)
