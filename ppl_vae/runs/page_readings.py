"""What each figure of a report shows: sentences that read it, made of the numbers of this run."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ppl_vae.runs.opened import Run
from ppl_vae.runs.page_words import final_records, guide_of, listed, nats, rows_of, smallest_variance, times
from ppl_vae.training.history import History

_AGREE = 0.05  # nats within which bounds are said to agree


def reading(run: Run, figure: str) -> str:
    """What a figure of the run shows, in a sentence or two; empty for a figure that is not known.

    Args:
        run: whose figure it is.
        figure: its file's name without the ending; behind a hyphen may stand the pair that it belongs to.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_readings import reading
        >>> reading(Run(Path("runs/a"), "train", "images", {}, {}, {}, {}, {}, None, {}, None), "mine")
        ''
    """
    for name, words in _READINGS.items():
        if figure == name or figure.startswith(f"{name}-"):
            return words(_of_pair(run, figure[len(name) + 1 :]))
    return _variance(run, figure.removeprefix("variance-")) if figure.startswith("variance-") else ""


def _of_pair(run: Run, ending: str) -> Run:
    """The run as far as the pair counts whose name ends a figure's; the whole run where none does."""
    rows = [row for row in rows_of(run) if row["guide"] == guide_of(run, ending)]
    return replace(run, results={**run.results, "guides": rows}) if rows else run


def _bounds(run: Run) -> str:
    bounds, rows = run.bounds, [row for row in rows_of(run) if row["is_bound"]]
    if bounds is None or not rows:
        return ""
    highest = int(bounds.K.max())
    names = [row["guide"] for row in rows]
    ends = {name: float(bounds.iwelbo.sel(guide=name, K=highest).mean()) for name in names}
    climbed = ends[names[-1]] - rows[-1]["elbo"]
    rise = f"From K = 1 to K = {highest} the bound of {names[-1]} rises by {nats(climbed)} nats."
    if len(names) == 1:
        return rise
    if "guide" in bounds.log_evidence.dims:
        return f"{rise} Each guide has a model of its own, so the curves need not meet."
    apart = max(ends.values()) - min(ends.values())
    if apart <= _AGREE:
        return (
            f"At K = {highest} the bounds of {listed(names)} lie within {nats(apart)} nats of each other, so they "
            f"agree on log p(x). {rise}"
        )
    low = min(ends, key=lambda name: ends[name])
    return (
        f"At K = {highest} the bounds of {listed(names)} are still {nats(apart)} nats apart, so that of {low} is not "
        f"yet close to log p(x). {rise}"
    )


def _gaps(run: Run) -> str:
    rows = sorted((row for row in rows_of(run) if row["gap"] is not None), key=lambda row: row["gap"])
    if not rows:
        return ""
    words = f"{rows[0]['guide']} leaves the smallest gap, {nats(rows[0]['gap'])} nats"
    if len(rows) == 1:
        words = f"{rows[0]['guide']} leaves a gap of {nats(rows[0]['gap'])} nats"
    elif rows[0]["gap"] > 0:
        worst = rows[-1]
        words += f"; {worst['guide']} leaves {times(worst['gap'] / rows[0]['gap'])} as much, {nats(worst['gap'])}"
    split = next((row for row in rows if row["approximation_gap"] is not None and row["gap"] > 0), None)
    if split is None:
        return f"{words}."
    share = split["approximation_gap"] / split["gap"]
    rest = "training has left the rest" if run.kind == "shared" else "the rest is the encoder's (amortization)"
    return f"{words}. Of the gap of {split['guide']}, the family itself accounts for {share:.0%}; {rest}."


def _khat(run: Run) -> str:
    rows = [row for row in rows_of(run) if row["is_bound"] and row["khat_good"] is not None]
    if run.bounds is None or not rows:
        return ""
    threshold, count = float(run.bounds.attrs["khat_threshold"]), run.bounds.sizes["data"]
    good = round(rows[0]["khat_good"] * count)
    rest = "" if good == count else f" For the other {count - good} the bounds may lie too low, with no error to tell."
    return (
        f"With {rows[0]['guide']}, k-hat is below {threshold:.2f} for {good} of {count} images, whose importance "
        f"weights can be trusted.{rest}"
    )


def _rate_distortion(run: Run) -> str:
    bounds, rows = run.bounds, [row for row in rows_of(run) if row["is_bound"] and row["rate"] is not None]
    if bounds is None or not rows:
        return ""
    name = rows[0]["guide"]
    distortion = float(bounds.distortion.sel(guide=name).mean())
    where = {"shared": "of the data", "table": "of a row"}.get(run.kind, "of an image")
    return (
        f"{name} spends {nats(rows[0]['rate'])} nats on z (its rate) and {nats(distortion)} on the rest {where} given "
        f"z (the distortion); together they are {nats(rows[0]['rate'] + distortion)}, which is −ELBO."
    )


def _training(run: Run) -> str:
    curves = {name: history for name, history in run.histories.items() if history.elbo}
    races = run.results.get("training", {})
    if not curves and races:
        ends = {name: float(np.mean(race["elbo"][-3:])) for name, race in races.items()}
        best, worst = max(ends, key=lambda n: ends[n]), min(ends, key=lambda n: ends[n])
        return (
            f"After {len(races[best]['elbo'])} epochs from the same start, {best} has trained the pair furthest, to "
            f"{nats(ends[best])} nats per image; {worst} has reached {nats(ends[worst])}."
        )
    return " ".join(_trained(name, history) for name, history in list(curves.items())[:1])


def _trained(name: str, history: History) -> str:
    late = history.elbo[-max(1, len(history.elbo) // 10) :]
    before = history.elbo[-2 * len(late) : -len(late)]
    whose = "the model" if name == "model" else name
    words = f"The training of {whose} took {len(history.elbo)} epochs ({history.ended}) and ended at {nats(late[-1])}"
    if not before:
        return f"{words} nats per data point."
    gained = float(np.mean(late) - np.mean(before))
    how = "rose by" if gained >= 0 else "fell by"
    return f"{words} nats per data point; over its last tenth the curve {how} {nats(abs(gained))} on average."


def _samples(run: Run) -> str:
    words = "Each is the mean of p(x | z) for a z drawn from the prior."
    bounds = run.bounds
    if bounds is None or "marginal_kl" not in bounds:
        return words
    name = next((row["guide"] for row in rows_of(run) if row["is_bound"]), None)
    apart = math.nan if name is None else float(bounds.marginal_kl.sel(guide=name))
    if math.isnan(apart):
        return words
    if apart < 0.5:
        return f"{words} The codes of the test images lie close to the prior ({nats(max(apart, 0.0))} nats, {name})."
    return (
        f"{words} The codes of the test images lie {nats(apart)} nats from the prior ({name}): some draws fall where "
        "no image is, and may look like none."
    )


def _manifold(run: Run) -> str:
    units = [row["active_units"] for row in rows_of(run) if row["is_bound"] and row["active_units"] is not None]
    words = "The decoder's mean over the plane of z; each step covers the same share of the prior."
    used = f" {units[0]} of the {run.settings['latents']} latents vary with the image." if units else ""
    return words + used


def _reconstructions(run: Run) -> str:
    count = 10 if run.bounds is None else min(10, run.bounds.sizes["data"])
    which = "the first test image" if count == 1 else f"the first {count} test images"
    return f"Above, {which}; below, the mean of p(x | z) for one z drawn from each guide."


def _variance(run: Run, axis: str) -> str:
    """How the variance of the best estimator at the end moves along the figure's axis."""
    final = final_records(run)
    if not final:
        return ""
    best, apart = final[0], smallest_variance(run)
    line = {
        record[axis]: record["variance"]
        for record in run.results["records"]
        if record["estimator"] == best["estimator"] and record["group"] == "total" and record["variance"] is not None
        if all(record[other] == best[other] for other in ("epoch", "latents", "particles") if other != axis)
    }
    if len(line) < 2:
        return f"{apart}."
    low, high = min(line), max(line)
    what = {"epoch": "epochs"}.get(axis, axis)
    return (
        f"{apart}. From {low} to {high} {what} the variance of {best['estimator']} goes from {line[low]:.3g} to "
        f"{line[high]:.3g}."
    )


def _density(run: Run) -> str:
    weights = run.results.get("weights")
    if not weights:
        return "The darker, the more probable the target is given the column; the dots are the training rows."
    shares = listed([f"{weight:.0%}" for weight in sorted(weights, reverse=True)])
    return f"The {len(weights)} components hold {shares} of the probability."


_READINGS: dict[str, Callable[[Run], str]] = {
    "bounds": _bounds,
    "gaps": _gaps,
    "khat": _khat,
    "rate-distortion": _rate_distortion,
    "training": _training,
    "reconstructions": _reconstructions,
    "samples": _samples,
    "manifold": _manifold,
    "density": _density,
}
