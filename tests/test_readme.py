"""Each Python block of the README runs by itself, as pasted, in a shorter form."""

import inspect
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from elsewhere import elsewhere

from ppl_vae import compare, fit

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHORTER = {
    "epochs=100": "epochs=1",
    "epochs=20": "epochs=1",
    "digits.test.bernoulli()": "digits.test[:60].bernoulli()",
}


def run(block: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setitem(inspect.unwrap(compare).__kwdefaults__, "particles", 100)
    for long, short in SHORTER.items():
        block = block.replace(long, short)
    names: dict[str, object] = {}
    exec(block, names)
    return names


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_as_pasted(number, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    run(BLOCKS[number], monkeypatch)
    assert "nats" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_where_fit_moves_the_pair_elsewhere(number, monkeypatch, tmp_path):
    """As on a machine with a GPU: ``fit`` leaves the pair there, and the data stay here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ppl_vae.training.modes.RowTable", ())  # the tests' device has no sparse gradients
    adam = partial(torch.optim.Adam, lr=1e-3, foreach=False)
    monkeypatch.setitem(inspect.unwrap(fit).__kwdefaults__, "optimizer", adam)
    with elsewhere() as place:
        for module in ("training.fit", "measure.side_by_side"):
            monkeypatch.setattr(f"ppl_vae.{module}.resolve_device", lambda device: place)
        names = run(BLOCKS[number], monkeypatch)
        trained = names["result"].pairs["flow"][0] if "result" in names else names["model"]
        assert next(trained.parameters()).device == place


def test_every_shortening_is_one_of_the_readme():
    assert [long for long in SHORTER if not any(long in block for block in BLOCKS)] == []


def test_the_readme_is_short_enough_to_read():
    assert README.count("\n") <= 130


def test_what_is_printed_is_a_table_of_guides():
    blocks = README.split("```")[1::2]
    outputs = [block for block in blocks if block.startswith("\n") and "make compare" not in block]
    assert len(outputs) == 2
    for output in outputs:
        headings = re.split(
            r"  +", next(line for line in output.splitlines() if line.strip().startswith("guide")).strip()
        )
        assert {"guide", "ELBO", "log p(x)", "gap", "k-hat"} <= set(headings)
        assert {"flow", "full", "diagonal"} <= {line.split()[0] for line in output.splitlines() if line.strip()}
