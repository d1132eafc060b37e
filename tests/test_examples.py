"""Every example without a test of its own runs, one epoch long; and so does the README's snippet."""

import inspect
import re
import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from elsewhere import elsewhere

from ppl_vae import compare, fit

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OF_THEIR_OWN = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "examples").glob("test_*.py")}
SHORT = {
    "discrete_latents": ("--steps", "2", "--latents", "5"),
    "reparameterized_or_score_function": ("--latents", "2", "--draws", "15"),
    "how_tight_is_the_bound": ("--particles", "32"),
    "why_encode_a_variance": ("--latents", "2", "--images", "20"),
    "can_the_evidence_be_trusted": ("--longest", "30", "--repeats", "2", "--points", "4"),
    "where_the_gap_comes_from": ("--images", "4", "--latents", "2", "--anneal", "3"),
}


@pytest.mark.parametrize(
    "example", [path for path in EXAMPLES if path.stem not in OF_THEIR_OWN], ids=lambda path: path.stem
)
def test_example(example, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), "--epochs", "1", *SHORT.get(example.stem, ())])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


SHORTER = {
    "epochs=2000": "epochs=20",
    "epochs=100": "epochs=1",
    "particles=1000": "particles=100",
    "digits.test.bernoulli()": "digits.test[:60].bernoulli()",
}


def run_the_readmes_snippets(monkeypatch):
    monkeypatch.setitem(inspect.unwrap(compare).__kwdefaults__, "particles", 100)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippets
    text = "\n".join(snippets)
    for long, short in SHORTER.items():
        assert long in text
        text = text.replace(long, short)
    names: dict[str, object] = {}
    exec(text, names)
    return names


def test_the_readmes_snippets_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_the_readmes_snippets(monkeypatch)


def test_the_readmes_snippets_run_where_fit_moves_the_pair_elsewhere(monkeypatch, tmp_path):
    """As on a machine with a GPU: ``fit`` leaves the pair there, and the data stay here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ppl_vae.training.modes.RowTable", ())  # the tests' device has no sparse gradients
    adam = partial(torch.optim.Adam, lr=1e-3, foreach=False)
    monkeypatch.setitem(inspect.unwrap(fit).__kwdefaults__, "optimizer", adam)
    with elsewhere() as place:
        for module in ("training.fit", "measure.side_by_side"):
            monkeypatch.setattr(f"ppl_vae.{module}.resolve_device", lambda device: place)
        names = run_the_readmes_snippets(monkeypatch)
    assert next(names["model"].parameters()).device == place


def test_the_readme_names_every_example():
    text = (ROOT / "README.md").read_text()
    assert [example.name for example in EXAMPLES if f"examples/{example.name}" not in text] == []
