"""The sentences of a report, made of results that are written down here."""

from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

from ppl_vae import InputError, Run
from ppl_vae.runs import page
from ppl_vae.runs.page_guides import guide_table
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


def test_an_infinite_khat_of_shared_latents_is_shown_and_an_unknown_one_is_not():
    rows = [
        {"guide": name, "is_bound": True, "elbo": -1.0, "khat": khat, "khat_good": good}
        | dict.fromkeys(("elbo_se", "log_evidence", "gap", "gap_se", "approximation_gap", "seconds"))
        for name, khat, good in (("a", 0.31, 1.0), ("b", None, 0.0), ("c", None, None))
    ]
    table = guide_table(run_of(kind="shared"), {"guides": rows, "log_evidence": "exact"})
    cells = next(column.cells for column in table.columns if column.heading == "k-hat")
    assert [cell.text for cell in cells] == ["0.31", "∞", "–"]
    assert cells[1].value == float("inf")


def test_a_run_without_what_a_report_reads_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(page, "open_run", lambda folder: run_of("train", settings={"guide": "full"}))
    monkeypatch.setattr(page, "read_record", lambda folder: {})
    with pytest.raises(InputError, match=r"run.json can't be opened by this version \(KeyError: 'name'\): run it anew"):
        page.write_page(Path("runs/a"))


def two_guides():
    """A comparison of guides that have models of their own."""
    names = ["semi-amortized:full", "diagonal"]
    rows = [{"guide": name, "is_bound": True, "active_units": units} for name, units in zip(names, (2, 1), strict=True)]
    apart = xr.Dataset({"marginal_kl": ("guide", [0.1, 3.0]), "elbo": ("data", [0.0] * 6)}, {"guide": names})
    return run_of(results={"guides": rows}, bounds=apart, settings={"latents": 2})


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ("samples-semi-amortized-full", "close to the prior (0.100 nats, semi-amortized:full)"),
        ("samples-diagonal", "3.000 nats from the prior (diagonal)"),
        ("manifold-diagonal", "1 of the 2 latents"),
        ("manifold", "2 of the 2 latents"),
        ("reconstructions", "Above, the first 6 test images;"),
    ],
)
def test_the_figure_of_a_model_is_read_by_the_numbers_of_that_model(figure, words):
    assert words in reading(two_guides(), figure)


def test_a_figure_is_called_by_its_guides_name(tmp_path):
    (tmp_path / "samples-semi-amortized-full.png").write_bytes(b"PNG")
    (figure,) = page._figures(replace(two_guides(), folder=tmp_path))
    assert figure["title"] == "Drawn from the model: semi-amortized:full"


@pytest.mark.parametrize(("kind", "words"), [("images", "; their own reports show images."), ("table", "a and b.")])
def test_only_runs_on_images_have_reports_that_show_some(kind, words):
    missing = page._of_images(run_of(kind=kind, settings={"runs": ["a", "b"]}), None)[2]
    assert missing.startswith("The pairs are those of a and b")
    assert missing.endswith(words)
