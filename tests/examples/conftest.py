"""Runs an example in its small form, as from the command line, and gives what it leaves."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
Example = Callable[..., dict[str, Any]]


@pytest.fixture
def run_example(monkeypatch, tmp_path, capsys) -> Example:
    """A function of an example's name and arguments; returns its variables, and what it printed as "printed"."""

    def run(name: str, *arguments: str) -> dict[str, Any]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        variables = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        assert (tmp_path / "runs" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        return variables | {"printed": capsys.readouterr().out}

    return run
