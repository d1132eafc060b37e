"""Every example without a test of its own runs, one epoch long."""

import runpy
import sys
from pathlib import Path

import pytest

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
