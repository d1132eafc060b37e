"""The table of a comparison in a report: a row for each guide."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ppl_vae.runs.opened import Run
from ppl_vae.runs.page_cells import Cell, Column, PageTable, number
from ppl_vae.runs.page_words import shown_khat, unit_of

_Rows = Sequence[Mapping[str, Any]]
_POINT_MASS = " A guide that is a point mass has no density; its number bounds nothing and may lie above log p(x)."


def guide_table(run: Run, found: Mapping[str, Any]) -> PageTable:
    """The guides of a comparison, with the columns that it has in a terminal.

    Args:
        run: that was compared, or measured again.
        found: the comparison as JSON keeps it.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_guides import guide_table
        >>> row = {"guide": "full", "is_bound": True, "elbo": -1.0, "elbo_se": 0.1, "log_evidence": -0.5, "gap": 0.5}
        >>> row |= dict.fromkeys(("gap_se", "approximation_gap", "khat_good", "seconds"))
        >>> run = Run(Path("runs/a"), "compare", "images", {}, {}, {}, {}, {}, None, {}, None)
        >>> table = guide_table(run, {"guides": [row], "log_evidence": "exact"})
        >>> [column.heading for column in table.columns]
        ['guide', 'ELBO', 'log p(x)', 'gap', 'k-hat', 'seconds']
    """
    rows, unit = found["guides"], unit_of(run)
    columns = [*_elbo(rows, unit), *_iwelbo(rows), *_gaps(rows, unit, found["log_evidence"], run.kind == "shared")]
    columns += [_khat(rows, run), _seconds(rows)]
    return PageTable(f"{unit[0].upper()}{unit[1:]}, tightest first", columns)


def _elbo(rows: _Rows, unit: str) -> list[Column]:
    return [
        Column(
            "guide",
            "The name of the approximate posterior q(z | x), as --guides takes it.",
            [Cell(r["guide"] + ("" if r["is_bound"] else " (not a bound)"), r["guide"]) for r in rows],
        ),
        Column(
            "ELBO",
            f"The evidence lower bound, in {unit}: the mean of log p(x, z) − log q(z | x) over z drawn from the guide. "
            "It can't lie above log p(x), and the closer it comes, the better the guide. Behind ± stands its Monte "
            "Carlo standard error." + ("" if all(r["is_bound"] for r in rows) else _POINT_MASS),
            [number(r["elbo"], r["elbo_se"]) for r in rows],
        ),
    ]


def _iwelbo(rows: _Rows) -> list[Column]:
    keys = [key for key in rows[0] if key.startswith("iwelbo_") and not key.endswith("_se")]
    counts = sorted(int(key.removeprefix("iwelbo_")) for key in keys)
    meaning = (
        "IWELBO, the same bound with K weighted draws in place of one: the log of the mean of K weights. It rises to "
        "log p(x) as K grows."
    )
    return [
        Column(
            f"K={count}",
            meaning if count == counts[0] else "",
            [number(r.get(f"iwelbo_{count}") if r["is_bound"] else None) for r in rows],
        )
        for count in counts
    ]


def _gaps(rows: _Rows, unit: str, evidence: str, shared: bool) -> list[Column]:
    columns = [
        Column(
            "log p(x)",
            f"How probable the data are under the model itself, in {unit}. Here: {evidence}.",
            [number(r["log_evidence"]) for r in rows],
        ),
        Column(
            "gap",
            "log p(x) − ELBO. It is the KL divergence from the guide to the true posterior: what the guide loses.",
            [number(r["gap"], r["gap_se"]) for r in rows],
        ),
    ]
    if all(r["approximation_gap"] is None for r in rows):
        return columns
    rest = "optimization" if shared else "amortization"
    why = "what training has left" if shared else "the encoder does not give each image its best member"
    parts = {
        "approximation": "The part of the gap that the best member of the guide's family would leave.",
        rest: f"The rest of the gap: {why}.",
    }
    for key, (heading, meaning) in zip(("approximation_gap", "amortization_gap"), parts.items(), strict=True):
        columns.append(Column(heading, meaning, [number(r[key], r[f"{key}_se"]) for r in rows]))
    return columns


def _khat(rows: _Rows, run: Run) -> Column:
    threshold = 0.7 if run.bounds is None else float(run.bounds.attrs["khat_threshold"])
    tail = f"Above {threshold:.2f} a few draws decide everything, and neither IWELBO nor its error can be relied on."
    if run.kind == "shared":
        # JSON has no infinity: where a k-hat is known, null is one
        values = [math.inf if r["khat"] is None else r["khat"] for r in rows]
        known = [r["khat_good"] is not None for r in rows]
        cells = [Cell(shown_khat(v), v) if is_known else Cell("–") for v, is_known in zip(values, known, strict=True)]
        return Column("k-hat", f"How heavy the tail of the importance weights is (Pareto smoothing). {tail}", cells)
    what = "rows" if run.kind == "table" else "images"
    shares = [r["khat_good"] for r in rows]
    return Column(
        "k-hat",
        f"The share of {what} whose importance weights can be trusted, by their k-hat. {tail}",
        [Cell("–") if share is None else Cell(f"{share:.1%}", share) for share in shares],
    )


def _seconds(rows: _Rows) -> Column:
    cells = [Cell("–") if r["seconds"] is None else Cell(f"{r['seconds']:.1f}", r["seconds"]) for r in rows]
    return Column("seconds", "What it took to fit this guide.", cells)
