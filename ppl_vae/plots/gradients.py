"""Figures of gradient estimators: their variance along one axis, and what they train side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ppl_vae.training.fit import History

_LABELS = {"epoch": "epochs of training", "latents": "latents", "particles": "particles"}


def variances(records: Sequence[Mapping[str, Any]], axis: str) -> Figure:
    """Draws each estimator's variance, with its interval, against "epoch", "latents" or "particles", on log axes.

    Examples:
        >>> from ppl_vae.plots.gradients import variances
        >>> record = {"estimator": "rloo", "biased": False, "variance": 3.0, "variance_low": 2.0, "variance_high": 5.0}
        >>> figure = variances([record | {"particles": count} for count in (2, 4, 8)], axis="particles")
        >>> figure.axes[0].get_xlabel()
        'particles'
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(dict.fromkeys(record["estimator"] for record in records)):
        points = [record for record in records if record["estimator"] == name and record["variance"] > 0]
        points.sort(key=lambda record: record[axis])
        if not points:
            continue
        at, value, low, high = (
            np.array([record[key] for record in points]) for key in (axis, "variance", "variance_low", "variance_high")
        )
        label, style = (f"{name} (biased)", ":") if points[0]["biased"] else (name, "-")
        axes.plot(at, value, "o", color=f"C{number}", linestyle=style, markersize=3, label=label)
        axes.fill_between(at, low, high, color=f"C{number}", alpha=0.2, linewidth=0)
    axes.set(yscale="log", xlabel=_LABELS[axis], ylabel="variance of the gradient, summed over parameters")
    if axis == "epoch":
        axes.set_xscale("symlog", linthresh=1)
    else:
        axes.set_xscale("log")
    axes.minorticks_off()
    ticks = sorted({record[axis] for record in records})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_title("Bands: 95% intervals; none where the tail is too heavy", fontsize=10)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def side_by_side(histories: Mapping[str, History], batch_size: int) -> Figure:
    """Draws the training ELBO against steps and seconds; the scale ignores the first tenth of each training.

    Examples:
        >>> from ppl_vae import History
        >>> from ppl_vae.plots.gradients import side_by_side
        >>> history = History(size=100, elbo=[-50.0, -45.0, -44.0], seconds=[0.5, 0.25, 0.25])
        >>> [axes.get_xlabel() for axes in side_by_side({"rloo": history}, batch_size=20).axes]
        ['steps', 'seconds']
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    late = []
    for number, (name, history) in enumerate(histories.items()):
        steps = -(-history.size // batch_size) * np.arange(1, len(history.elbo) + 1)
        label, style = (f"{name} ({history.note})", ":") if history.note else (name, "-")
        left.plot(steps, history.elbo, style, color=f"C{number}", marker=".", label=label)
        right.plot(np.cumsum(history.seconds), history.elbo, style, color=f"C{number}", marker=".")
        late += history.elbo[len(history.elbo) // 10 :] if history.is_bound else []
    if late:
        margin = 0.05 * (max(late) - min(late)) + 0.1
        left.set_ylim(min(late) - margin, max(late) + margin)
    left.set(xlabel="steps", ylabel="training ELBO, nats per image")
    right.set(xlabel="seconds", xscale="log")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right center", fontsize=9)
    return figure
