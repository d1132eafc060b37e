"""The words of a report: how its numbers are written, and what came out of the run in a sentence."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ppl_vae.runs.opened import Run
from ppl_vae.runs.writing import file_name


def nats(value: float) -> str:
    """A number of nats with as many decimals as can be read: three below 1000, one from there on.

    Examples:
        >>> from ppl_vae.runs.page_words import nats
        >>> nats(-23.4211), nats(0.0042), nats(-1126.316)
        ('−23.421', '0.004', '−1126.3')
    """
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return f"{value:.{3 if abs(value) < 1000 else 1}f}".replace("-", "−")


def shown_khat(khat: float) -> str:
    """A k-hat in two decimals.

    Examples:
        >>> from ppl_vae.runs.page_words import shown_khat
        >>> shown_khat(-0.123), shown_khat(float("inf"))
        ('−0.12', '∞')
    """
    return nats(khat) if math.isinf(khat) else f"{khat:.2f}".replace("-", "−")


def times(ratio: float) -> str:
    """How many times as large, in two digits that can be read: no power of ten.

    Examples:
        >>> from ppl_vae.runs.page_words import times
        >>> times(1.234), times(151_234.0), times(3e9)
        ('1.2 times', '150,000 times', 'more than a million times')
    """
    if ratio > 1e6:
        return "more than a million times"
    rounded = float(f"{ratio:.2g}")
    return f"{rounded:,.0f} times" if rounded >= 10 else f"{rounded:g} times"


def listed(names: Sequence[str]) -> str:
    """Names in a row: "a, b and c".

    Examples:
        >>> from ppl_vae.runs.page_words import listed
        >>> listed(["diagonal", "full", "flow"])
        'diagonal, full and flow'
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def rows_of(run: Run) -> list[Mapping[str, Any]]:
    """The guides of a comparison as its JSON keeps them, tightest first; empty for another run.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_words import rows_of
        >>> rows_of(Run(Path("runs/a"), "train", "table", {}, {}, {}, {}, {}, None, {"starts": []}, None))
        []
    """
    rows: list[Mapping[str, Any]] = run.results.get("guides", [])
    return rows


def guide_of(run: Run, ending: str) -> str:
    """The guide in whose name a file's ends, or the ending itself where it is none's.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_words import guide_of
        >>> found = {"guides": [{"guide": "semi-amortized:full"}]}
        >>> run = Run(Path("runs/a"), "compare", "images", {}, {}, {}, {}, {}, None, found, None)
        >>> guide_of(run, "semi-amortized-full")
        'semi-amortized:full'
    """
    return next((row["guide"] for row in rows_of(run) if file_name(row["guide"]) == ending), ending)


def unit_of(run: Run) -> str:
    """What the figures of a run are per: "nats per image", say.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_words import unit_of
        >>> unit_of(Run(Path("runs/a"), "train", "shared", {}, {}, {}, {}, {}, None, {}, None))
        'nats for all the data'
    """
    return {"shared": "nats for all the data", "table": "nats per row"}.get(run.kind, "nats per image")


def answer(run: Run) -> str:
    """The sentence at the head of the page: what came out.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_words import answer
        >>> run = Run(Path("runs/a"), "train", "images", {}, {}, {}, {}, {}, None, {"test_elbo": -1.0}, None)
        >>> answer(run)
        'On the test images the ELBO is −1.000 nats per image.'
    """
    found = run.results
    bounding = [row for row in rows_of(run) if row["is_bound"]]
    if bounding:
        best = bounding[0]
        words = f"{best['guide']} has the tightest ELBO: {nats(best['elbo'])} {unit_of(run)}"
        if len(bounding) == 1:
            words = f"The ELBO of {best['guide']} is {nats(best['elbo'])} {unit_of(run)}"
        below = "" if best["gap"] is None else f", {nats(best['gap'])} nats below the best estimate of log p(x)"
        last = bounding[-1]
        behind = "" if last is best else f"; {last['guide']} is {nats(best['elbo'] - last['elbo'])} nats behind it"
        return f"{words}{below}{behind}."
    if "test_elbo" in found:
        words = f"On the test images the ELBO is {nats(found['test_elbo'])} nats per image"
        curve = found.get("test_iwelbo", {})
        if not found.get("is_bound", True):
            return f"{words}; the guide is a point mass, so this bounds nothing."
        highest = max(curve, key=int, default=None)
        more = f"; with {highest} weighted draws the bound is {nats(curve[highest])}" if highest else ""
        return f"{words}{more}."
    if "test_nll" in found:
        return f"The test rows have a negative log-density of {nats(found['test_nll'])} nats each, on average."
    if "bic" in found:
        starts = len(found["starts"])
        return (
            f"The best of {starts} starts has a log-likelihood of {nats(found['log_likelihood'])} nats for the "
            f"{found['rows']} rows; its BIC is {nats(found['bic'])} (lower is better)."
        )
    return f"{smallest_variance(run)}." if final_records(run) else ""


def smallest_variance(run: Run) -> str:
    """Which estimator has the smallest variance at the end, how large it is, and how far it lies from the largest.

    Args:
        run: whose final records are not empty.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_words import smallest_variance
        >>> record = {"group": "total", "final": True, "latents": 8, "particles": 1}
        >>> found = {"records": [record | {"estimator": "pathwise", "variance": 2.0}]}
        >>> smallest_variance(Run(Path("runs/a"), "gradients", "images", {}, {}, {}, {}, {}, None, found, None))
        'At the end the gradient of pathwise has a variance of 2'
    """
    least, *others = final_records(run)
    name, value = least["estimator"], least["variance"]
    if not others:
        return f"At the end the gradient of {name} has a variance of {value:.3g}"
    most = others[-1]
    # where an estimator draws nothing, as by enumeration, nothing is a multiple of its variance
    apart = f"{times(most['variance'] / value)} as large" if value > 0 else f"{most['variance']:.3g}"
    return f"{name} has the smallest variance at the end: {value:.3g}; that of {most['estimator']} is {apart}"


def final_records(run: Run) -> list[Mapping[str, Any]]:
    """The gradients of all parameters at the end of the last training, fewest particles, smallest variance first.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_words import final_records
        >>> final_records(Run(Path("runs/a"), "gradients", "images", {}, {}, {}, {}, {}, None, {}, None))
        []
    """
    records = run.results.get("records", [])
    if not records:
        return []
    latents = records[-1]["latents"]
    found = [r for r in records if r["group"] == "total" and r["final"] and r["latents"] == latents]
    fewest = {
        name: min(r["particles"] for r in found if r["estimator"] == name) for name in {r["estimator"] for r in found}
    }
    chosen = [r for r in found if r["particles"] == fewest[r["estimator"]] and r["variance"] is not None]
    return sorted(chosen, key=lambda record: record["variance"])
