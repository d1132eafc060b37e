"""The tables of a report, each with what its columns mean in plain words."""

from collections.abc import Mapping, Sequence
from typing import Any

from ppl_vae.runs.opened import Run
from ppl_vae.runs.page_cells import Cell, Column, PageTable, number
from ppl_vae.runs.page_guides import guide_table
from ppl_vae.runs.page_words import final_records


def tables(run: Run, results: Mapping[str, Any] | None = None) -> list[PageTable]:
    """The tables of a run, as far as its results hold them.

    Args:
        run: the run.
        results: a later measurement of it; its own results where None.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_tables import tables
        >>> run = Run(Path("runs/a"), "train", "images", {}, {}, {}, {}, {}, None, {"test_elbo": -1.0}, None)
        >>> tables(run)[0].columns[0].heading
        'measured on the test images'
    """
    found = run.results if results is None else results
    if found.get("guides"):
        return [guide_table(run, found)]
    if "test_elbo" in found:
        return [_one_pair(found)]
    if "starts" in found:
        return [_starts(found), *([_components(found)] if found.get("weights") else [])]
    return [_gradients(run)] if final_records(run) else []


def _one_pair(found: Mapping[str, Any]) -> PageTable:
    """What ``train`` measures, one line for each quantity."""
    curve, errors = found.get("test_iwelbo", {}), found.get("test_iwelbo_se", {})
    lines: list[tuple[str, Cell, str]] = [
        ("ELBO", number(found["test_elbo"], found.get("test_elbo_se")), "the bound that the training raises"),
        *(
            (f"IWELBO, K = {count}", number(curve[count], errors[count]), "the same with K weighted draws")
            for count in sorted(curve, key=int)
            if int(count) > 1
        ),
    ]
    if found.get("test_log_evidence") is not None:
        lines.append(("log p(x)", number(found["test_log_evidence"]), "exact"))
    if found.get("held_out_elbo") is not None:
        lines.append(("held-out ELBO", number(found["held_out_elbo"]), "on training images that were held out"))
    names, values, meanings = zip(*lines, strict=True)
    return PageTable(
        "Nats per test image, ± Monte Carlo standard error",
        [
            Column("measured on the test images", "", [Cell(name, place) for place, name in enumerate(names)]),
            Column(
                "nats per image",
                "Bounds on log p(x), in natural logarithms: higher is tighter. At K = 1 IWELBO is the ELBO, and it "
                "rises to log p(x) as K grows.",
                list(values),
            ),
            Column("what it is", "", [Cell(meaning, meaning) for meaning in meanings]),
        ],
        "" if found.get("is_bound", True) else "The guide is a point mass, so these numbers bound nothing.",
    )


def _starts(found: Mapping[str, Any]) -> PageTable:
    """The starts of a training on a table."""
    starts: Sequence[Mapping[str, Any]] = found["starts"]
    notes = [
        " ".join(word for word, true in (("kept", s["kept"]), ("degenerate", s["degenerate"])) if true) for s in starts
    ]
    columns = [
        Column("start", "The seed that this training started from.", [Cell(str(s["seed"]), s["seed"]) for s in starts]),
        Column(
            "log-likelihood",
            "The log-density of all training rows together, in nats: higher fits better.",
            [number(s["log_likelihood"]) for s in starts],
        ),
    ]
    if any(s["held_out"] is not None for s in starts):
        meaning = "The mean log-density of the validation rows, by which the start is chosen."
        columns.append(Column("validation, nats per row", meaning, [number(s["held_out"]) for s in starts]))
    if any(s["smallest_eigenvalue"] is not None for s in starts):
        eigenvalues = [s["smallest_eigenvalue"] for s in starts]
        shown = [Cell("–") if value is None else Cell(f"{value:.3g}", value) for value in eigenvalues]
        meaning = "Of all components' covariances. Near 0 a component has collapsed onto a few rows (degenerate)."
        columns.append(Column("smallest eigenvalue", meaning, shown))
    seconds = [Cell(f"{s['seconds']:.1f}", s["seconds"]) for s in starts]
    columns.append(Column("seconds", "What the training took.", seconds))
    columns.append(Column("note", "", [Cell(note or "–", note) for note in notes]))
    return PageTable(
        f"All starts; kept is the one with the best {found['kept_by'].partition(',')[0].replace('_', ' ')}", columns
    )


def _components(found: Mapping[str, Any]) -> PageTable:
    """The components of a Gaussian mixture."""
    weights, means = found["weights"], found["means"]
    numbered = [Cell(str(place + 1), place + 1) for place in range(len(weights))]
    columns = [
        Column("component", "", numbered),
        Column("weight", "The component's share of the probability.", [Cell(f"{w:.1%}", w) for w in weights]),
    ]
    for index, name in enumerate(found["columns"]):
        values = [mean[index] for mean in means]
        columns.append(Column(name, "", [Cell(f"{value:.4g}".replace("-", "−"), value) for value in values]))
    return PageTable("The components: their weights and means", columns)


def _gradients(run: Run) -> PageTable:
    """The estimators at the end of the training of the last pair."""
    records = final_records(run)
    of = records[0]

    def cells(name: str, digits: int = 4, factor: float = 1.0) -> list[Cell]:
        values = [r.get(name) for r in records]
        return [Cell("–") if v is None else Cell(f"{factor * v:.{digits}g}", factor * v) for v in values]

    intervals = [
        Cell("heavy tail: more draws")
        if r["variance_low"] is None
        else Cell(f"{r['variance_low']:.4g} to {r['variance_high']:.4g}", r["variance_low"])
        for r in records
    ]
    ratios = [
        r["bias"] / r["bias_noise"] if r.get("bias_noise") and r.get("bias") is not None else None for r in records
    ]
    columns = [
        Column(
            "estimator",
            "The name of the gradient's estimator, as --estimators takes it.",
            [Cell(r["estimator"] + (" (biased)" if r["biased"] else ""), r["estimator"]) for r in records],
        ),
        Column("particles", "Draws of z for each image.", cells("particles")),
        Column("variance", "Of the gradient, summed over all parameters: smaller is better.", cells("variance")),
        Column("95% interval", "Where the variance lies.", intervals),
        Column("SNR", "Signal-to-noise: the gradient's length over its standard deviation.", cells("snr", 3)),
        Column(
            "bias / noise",
            f"How far the mean lies from the reference ({of['reference']}), over how far chance alone would put it: "
            "about 1 without bias.",
            [Cell("–") if ratio is None else Cell(f"{ratio:.2f}", ratio) for ratio in ratios],
        ),
        Column("ms", "Milliseconds for one gradient.", cells("seconds", 3, 1000.0)),
        Column("variance × s", "Variance times seconds: what an equal precision costs.", cells("variance_cost", 3)),
    ]
    size = run.settings.get("batch_size")
    title = f"The gradient in nats, summed over {size} images; {of['latents']} latents, after {of['epoch']} epochs"
    return PageTable(title, columns)
