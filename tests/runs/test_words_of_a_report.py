"""The sentences of a report, made of results that are written down here."""

from pathlib import Path

import pytest

from ppl_vae import Run
from ppl_vae.runs.page_readings import reading
from ppl_vae.runs.page_words import answer


def run_of(command="compare", kind="images", results=None, bounds=None, settings=None):
    return Run(Path("runs/a"), command, kind, settings or {}, {}, {}, {}, {}, bounds, results or {}, None)


def gradients(variances):
    """A run of gradients whose variances halve from the first epoch to the last."""
    records = [
        {"estimator": name, "variance": value * factor, "epoch": epoch, "final": epoch == 5}
        | {"group": "total", "latents": 8, "particles": 1}
        for name, value in variances.items()
        for epoch, factor in ((0, 2.0), (5, 1.0))
    ]
    return run_of("gradients", results={"records": records})


@pytest.mark.parametrize(
    ("variances", "words"),
    [
        ({"enum": 0.0, "rloo": 0.5}, "enum has the smallest variance at the end: 0; that of rloo is 0.5"),
        ({"rloo": 0.5}, "At the end the gradient of rloo has a variance of 0.5"),
        ({"a": 2.0, "b": 3.0}, "a has the smallest variance at the end: 2; that of b is 1.5 times as large"),
        (
            {"a": 0.001, "b": 151.0},
            "a has the smallest variance at the end: 0.001; that of b is 150,000 times as large",
        ),
    ],
)
def test_variances_are_told_whatever_they_are(variances, words):
    run = gradients(variances)
    assert answer(run) == f"{words}."
    assert reading(run, "variance-epoch").startswith(f"{words}. From 0 to 5 epochs the variance of ")


def test_a_gap_that_is_far_larger_is_told_without_a_power_of_ten():
    rows = [{"guide": name, "gap": gap, "approximation_gap": None} for name, gap in (("a", 1e-4), ("b", 15.0))]
    assert "b leaves 150,000 times as much, 15.000" in reading(run_of(results={"guides": rows}), "gaps")
