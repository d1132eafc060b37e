"""The command line as a person or a program runs it, in this process."""

import sys

import pytest

from ppl_vae.cli import app as cli


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs ``ppl-vae`` in an empty folder; returns exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ppl-vae", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return call
