"""Every example runs, one epoch long; and so does the README's snippet."""

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHORT = {
    "bayesian_mixture": ("--chains", "1"),
    "discrete_latents": ("--steps", "2", "--latents", "5"),
    "imitation": ("--demonstrations", "20", "--episodes", "20"),
    "mixture_density_network": ("--starts", "2"),
    "reparameterized_or_score_function": ("--latents", "2", "--draws", "15"),
    "how_tight_is_the_bound": ("--particles", "32"),
    "why_encode_a_variance": ("--latents", "2", "--images", "20"),
    "can_the_evidence_be_trusted": ("--longest", "30", "--repeats", "2", "--points", "4"),
    "where_the_gap_comes_from": ("--images", "4", "--latents", "2", "--anneal", "3"),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), "--epochs", "1", *SHORT.get(example.stem, ())])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out


def test_the_readmes_snippets_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert snippets
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet.replace("epochs=100", "epochs=1"), names)


def test_the_readme_names_every_example():
    text = (ROOT / "README.md").read_text()
    assert [example.name for example in EXAMPLES if f"examples/{example.name}" not in text] == []
