"""Figures of gradient estimators: their variance along one axis, and what they train side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from ppl_vae.plots.style import colors, label_ends, new_figure, tidy, write_title
from ppl_vae.training.fit import History

_LABELS = {"epoch": "epochs of training", "latents": "latents", "particles": "particles"}
_VARIANCE = "variance of the gradient, nats$^2$"


def variances(records: Sequence[Mapping[str, Any]], axis: str) -> Figure:
    """Draws each estimator's variance, with its interval, against "epoch", "latents" or "particles", on log axes.

    Two values of the axis make no curve: then each record is a line of its own, with its interval.

    Examples:
        >>> from ppl_vae.plots.gradients import variances
        >>> record = {"estimator": "rloo", "biased": False, "variance": 3.0, "variance_low": 2.0, "variance_high": 5.0}
        >>> figure = variances([record | {"particles": count} for count in (2, 4, 8)], axis="particles")
        >>> figure.axes[0].get_xlabel()
        'particles'
    """
    shades = colors(record["estimator"] for record in records)
    drawn = sorted((record for record in records if record["variance"] > 0), key=lambda record: record[axis])
    if len({record[axis] for record in records}) > 2:
        figure, mark = _curves(drawn, axis, shades), "Bands"
    else:
        figure, mark = _intervals(drawn, axis, shades), "Lines"
    tail = "" if all(np.isfinite(record["variance_low"]) for record in drawn) else ", none where the tail is too heavy"
    write_title(
        figure,
        "Variance of the gradient of the ELBO of one batch, summed over all parameters",
        f"{mark}: 95% intervals{tail}. Particles: draws of z for each image.",
    )
    return figure


def _curves(records: Sequence[Mapping[str, Any]], axis: str, shades: Mapping[str, str]) -> Figure:
    figure = new_figure(8, 4.5)
    axes = tidy(figure.add_subplot())
    for name in dict.fromkeys(record["estimator"] for record in records):
        points = [record for record in records if record["estimator"] == name]
        at, value, low, high = (
            np.array([record[key] for record in points]) for key in (axis, "variance", "variance_low", "variance_high")
        )
        style = ":" if points[0]["biased"] else "-"
        axes.plot(at, value, "o", color=shades[name], linestyle=style, markersize=3, label=_label(points[0], axis))
        axes.fill_between(at, low, high, color=shades[name], alpha=0.2, linewidth=0)
    axes.set(yscale="log", xlabel=_LABELS[axis], ylabel=_VARIANCE)
    if axis == "epoch":
        axes.set_xscale("symlog", linthresh=1)
    else:
        axes.set_xscale("log")
    axes.margins(x=0.02)
    axes.minorticks_off()
    ticks = sorted({record[axis] for record in records})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    label_ends(axes)
    return figure


def _intervals(records: Sequence[Mapping[str, Any]], axis: str, shades: Mapping[str, str]) -> Figure:
    best = {record["estimator"]: record["variance"] for record in records}  # at the axis's last value
    rows = sorted(records, key=lambda record: (-best[record["estimator"]], record["estimator"], -record[axis]))
    figure = new_figure(8, 0.3 * len(rows) + 1.6)
    axes = tidy(figure.add_subplot())
    for place, record in enumerate(rows):
        color, value = shades[record["estimator"]], record["variance"]
        axes.plot(value, place, "o", color=color, markersize=5)
        axes.plot((record["variance_low"], record["variance_high"]), (place, place), color=color, linewidth=2)
    names = [f"{_label(record, axis)}, {_LABELS[axis]}: {record[axis]}" for record in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set(xscale="log", xlabel=_VARIANCE)
    return figure


def _label(record: Mapping[str, Any], axis: str) -> str:
    """The estimator with what tells it from others: the particles that it takes, and whether it is biased."""
    count = record.get("particles", 0) if axis != "particles" else 0
    particles = f", {count} particle{'s' if count > 1 else ''}" if count else ""
    return f"{record['estimator']}{particles}{' (biased)' if record['biased'] else ''}"


def side_by_side(histories: Mapping[str, History], batch_size: int) -> Figure:
    """Draws the training ELBO against steps and seconds; the scale ignores the first tenth of each training.

    Examples:
        >>> from ppl_vae import History
        >>> from ppl_vae.plots.gradients import side_by_side
        >>> history = History(size=100, elbo=[-50.0, -45.0, -44.0], seconds=[0.5, 0.25, 0.25])
        >>> [axes.get_xlabel() for axes in side_by_side({"rloo": history}, batch_size=20).axes]
        ['steps of training', 'time of training, seconds']
    """
    figure = new_figure(11, 4.5)
    left, right = (tidy(axes) for axes in figure.subplots(1, 2, sharey=True))
    shades = colors(histories)
    late = []
    for name, history in histories.items():
        steps = -(-history.size // batch_size) * np.arange(1, len(history.elbo) + 1)
        label, style = (f"{name} ({history.note})", ":") if history.note else (name, "-")
        left.plot(steps, history.elbo, style, color=shades[name], marker=".", label=label)
        right.plot(np.cumsum(history.seconds), history.elbo, style, color=shades[name], marker=".")
        late += history.elbo[len(history.elbo) // 10 :] if history.is_bound else []
    if late:
        margin = 0.05 * (max(late) - min(late)) + 0.1
        left.set_ylim(min(late) - margin, max(late) + margin)
    left.set(xlabel="steps of training", ylabel="training ELBO, nats per data point")
    left.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    right.set(xlabel="time of training, seconds", xscale="log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.xaxis.set_minor_formatter(NullFormatter())
    label_ends(left)
    write_title(figure, "The same training with each estimator: by steps, and by the time that they take")
    return figure
