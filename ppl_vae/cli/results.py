"""What a run shows and writes: its table, its figures, and the files that hold its numbers."""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch import Tensor, nn

from ppl_vae.cli.reporting import report
from ppl_vae.cli.terminal import show
from ppl_vae.cli.watching import ending, ending_lines
from ppl_vae.data.images import DATASETS, Images
from ppl_vae.measure.comparison_table import Row
from ppl_vae.measure.side_by_side import Comparison
from ppl_vae.plots import bounds, gaps, images
from ppl_vae.programs import LatentVariableModel
from ppl_vae.runs.plain_json import plain as plain  # for the commands
from ppl_vae.runs.plain_json import write_json as write_json
from ppl_vae.runs.writing import file_name, write_bounds, write_histories
from ppl_vae.training import distributed
from ppl_vae.training.writing import replaced


def tell_images(source: Images, binarized: bool) -> None:
    """Prints on standard error what a user's own file was understood to hold (in the first of many processes)."""
    if source.name not in DATASETS and distributed.rank() == 0:
        anew = ", each pixel drawn as 0 or 1 with its grey level for the probability" if binarized else ""
        print(f"ppl-vae: {source.described}{anew}", file=sys.stderr)


def tell(content: Mapping[str, Any], shown: Table, as_json: bool, folder: Path | None = None) -> None:
    """Prints JSON alone, or a table for a terminal; then writes the report of the run, where it left a folder."""
    if as_json:
        print(json.dumps(plain(content)))
    else:
        show(shown)
    if folder is not None:
        tell_folder(folder, as_json)


def tell_folder(folder: Path, as_json: bool) -> None:
    """Writes the report of a run, and prints where it and the run's folder are."""
    page = report(folder)
    if not as_json:
        print(*([f"report: {page}"] if page is not None else []), folder, sep="\n")


def table(comparison: Comparison, unit: str = "image") -> Table:
    """The comparison as a table for a terminal; ``unit`` is what a data point is called."""
    split = any(row.approximation_gap is not None for row in comparison.rows)
    counts = list(comparison.rows[0].iwelbo)[-1 if split else 0 :]
    whole = comparison.bounds.attrs["unit"] == "data set"
    units = "nats for all the data" if whole else f"nats per {unit}"
    threshold = comparison.bounds.attrs["khat_threshold"]
    trusted = f"the share of {unit}s whose importance weights can be trusted"
    khat = f"importance weights can be trusted below {threshold:.2f}" if whole else trusted
    tied = any(row.tie for row in comparison.rows)
    error = "their Monte Carlo standard errors" if whole else f"its standard errors over the {unit}s"
    tie = f" tie: the ELBO differs from that of the line above by less than two of {error}." if tied else ""
    caption = f"K=...: IWELBO. log p(x): {comparison.evidence}. gap = log p(x) - ELBO. k-hat: {khat}.{tie}"
    shown = Table(
        title=f"Tightest first{', ties marked' if tied else ''}; {units} ± Monte Carlo standard error",
        caption="\n".join([caption, *ending_lines(comparison.histories, "" if whole else f"/{unit}")]),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("guide", no_wrap=True)
    parts = ("approximation", "optimization" if whole else "amortization") if split else ()
    for heading in (
        "ELBO",
        *(f"K={count}" for count in counts),
        "log p(x)",
        "gap",
        *parts,
        "k-hat",
        "seconds",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in comparison.rows:
        shown.add_row(
            f"{row.guide}{' (tie)' if row.tie else ''}{'' if row.is_bound else f' ({bounds.NOT_A_BOUND})'}",
            f"{row.elbo:.3f} ± {row.elbo_se:.3f}",
            *(f"{row.iwelbo[count][0]:.3f}" if row.is_bound else "-" for count in counts),
            "-" if row.log_evidence is None else f"{row.log_evidence:.3f}",
            with_error(row.gap, row.gap_se),
            *((with_error(row.approximation_gap, row.approximation_gap_se),) if split else ()),
            *((with_error(row.amortization_gap, row.amortization_gap_se),) if split else ()),
            "-" if row.khat_good is None else f"{row.khat:.2f}" if whole else f"{row.khat_good:.1%}",
            "-" if math.isnan(row.seconds) else f"{row.seconds:.1f}",
        )
    return shown


def with_error(value: float | None, error: float | None) -> str:
    """Formats a number with three decimals, and with its error where there is one."""
    if value is None:
        return "-"
    return f"{value:.3f}" if error is None or math.isnan(error) else f"{value:.3f} ± {error:.3f}"


def record(row: Row) -> dict[str, Any]:
    """Flattens a row of the comparison to words and numbers, for JSON and CSV."""
    flat = asdict(row)
    for count, (value, error) in flat.pop("iwelbo").items():
        flat |= {f"iwelbo_{count}": value, f"iwelbo_{count}_se": error}
    return flat | {"note": "" if row.is_bound else bounds.NOT_A_BOUND}


def summary(comparison: Comparison, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The whole comparison as it is written to JSON."""
    return {
        "settings": dict(settings),
        "units": f"{comparison.bounds.attrs['units']}; _se: Monte Carlo standard error",
        "log_evidence": comparison.evidence,
        "guides": [record(row) for row in comparison.rows],
        "trainings": {name: ending(history) for name, history in comparison.histories.items()},
        "advice": _advice(comparison),
    }


def _advice(comparison: Comparison) -> list[str]:
    """What looked wrong, in the trainings and in the table."""
    trained = [f"{name}: {line}" for name, history in comparison.histories.items() for line in history.advice]
    return trained + comparison.advice


def write_comparison(folder: Path, comparison: Comparison, settings: Mapping[str, Any]) -> None:
    """Writes the table as CSV and JSON, the bounds of each image as netCDF, and the curves."""
    write_json(folder / "table.json", summary(comparison, settings))
    write_csv(folder / "table.csv", [record(row) for row in comparison.rows])
    write_bounds(folder, comparison.bounds)
    write_histories(folder, comparison.histories)
    save(folder / "bounds.png", bounds.bound_curves(comparison))
    if comparison.histories:
        save(folder / "training.png", bounds.training_curves(comparison.histories, comparison.pairs))


def write_diagnostics(folder: Path, comparison: Comparison, x: Tensor, shape: tuple[int, int]) -> None:
    """Draws the gaps, rate against distortion, and k-hat by image for the tightest guide that gives a bound."""
    sound = [row.guide for row in comparison.rows if row.is_bound]
    if not sound:
        return
    write_gaps(folder, comparison)
    tightest = comparison.bounds.sel(guide=sound[0])
    save(folder / "khat.png", gaps.khat_by_image(tightest, x, shape, guides=comparison.pairs))


def write_gaps(folder: Path, comparison: Comparison) -> None:
    """Draws the gaps, and rate against distortion, of those guides that have them."""
    if any(row.gap is not None for row in comparison.rows):
        save(folder / "gaps.png", gaps.stacked_gaps(comparison))
    if any(row.rate is not None for row in comparison.rows):
        save(folder / "rate-distortion.png", gaps.rate_distortion(comparison))


def write_images(
    folder: Path,
    pairs: Mapping[str, tuple[nn.Module, nn.Module]],
    batch: tuple[Tensor, ...],
    shape: tuple[int, int],
) -> None:
    """Draws reconstructions, samples of each model and, for a plain 2-d latent, the manifold."""
    models = {id(model): (name, model) for name, (model, _) in pairs.items()}
    save(folder / "reconstructions.png", images.reconstructions(pairs, tuple(part[:10] for part in batch), shape))
    for name, model in models.values():
        if not isinstance(model, LatentVariableModel):
            continue
        ending = f"-{file_name(name)}" if len(models) > 1 else ""
        given = [part[torch.arange(100) % len(part)] for part in batch[1 : 1 + model.given_count]]
        save(folder / f"samples{ending}.png", images.samples(model, shape, *given))
        plain = type(model).forward is LatentVariableModel.forward and not model.given_count
        if plain and model.prior().event_shape == (2,) and model.prior().has_rsample:
            save(folder / f"manifold{ending}.png", images.manifold(model, shape))


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes records as CSV, one column for each key that any of them has."""
    with replaced(path) as new, new.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for record in records for key in record)))
        writer.writeheader()
        writer.writerows(records)


def save(path: Path, figure: Figure) -> None:
    """Writes a figure as PNG."""
    with replaced(path) as new:
        figure.savefig(new, dpi=120, format="png")
