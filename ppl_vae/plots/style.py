"""The house style of all figures: colours, axes without clutter, labels at the lines, and how a figure is shown."""

import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from ppl_vae.training.writing import replaced

# Okabe and Ito's colours, which colour-blind readers tell apart; black is kept for what is exact
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#6A51A3")
_FIRST = ("diagonal", "flow", "full", "delta", "unit", "fixed-scale", "prior", "mixture")  # these keep their colours
GREY = "0.45"  # for what belongs to no guide: the training of the model alone, an estimate of log p(x)
# how label_ends writes
_WRITTEN: dict[str, Any] = {
    "xycoords": "axes fraction",
    "textcoords": "axes fraction",
    "annotation_clip": False,
    "va": "center",
    "fontsize": 9,
}
_JOINED: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2}


def colors(names: Iterable[str]) -> dict[str, str]:
    """Gives each name of a run its colour, the same whatever the order of the names.

    Args:
        names: of all guides (or estimators, models) of the run; every figure of the run is given all of them.

    Examples:
        >>> from ppl_vae.plots.style import colors
        >>> colors(["flow", "diagonal"])["flow"] == colors(["diagonal", "mine", "flow"])["flow"]
        True
    """
    asked = sorted(set(names))
    taken = {name: PALETTE[_FIRST.index(name)] for name in asked if name in _FIRST}
    taken |= {"model": GREY} if "model" in asked else {}
    free = [color for color in PALETTE if color not in taken.values()]
    others = [name for name in asked if name not in taken]
    return taken | {name: (free or PALETTE)[number % len(free or PALETTE)] for number, name in enumerate(others)}


def new_figure(width: float = 7, height: float = 4.2) -> Figure:
    """Makes an empty figure of the house style; sizes in inches.

    Examples:
        >>> from ppl_vae.plots.style import new_figure
        >>> new_figure(6, 4).get_size_inches().tolist()
        [6.0, 4.0]
    """
    return Figure(figsize=(width, height), layout="constrained")


def tidy(axes: Axes) -> Axes:
    """Takes away the frame's upper and right side, and adds a faint grid; returns the axes.

    Examples:
        >>> from ppl_vae.plots.style import new_figure, tidy
        >>> tidy(new_figure().add_subplot()).spines["top"].get_visible()
        False
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def write_title(figure: Figure, *lines: str) -> None:
    """Writes a figure's title over its whole width, a paragraph for each of the lines; empty ones are left out.

    Examples:
        >>> from ppl_vae.plots.style import new_figure, write_title
        >>> figure = new_figure(6, 4)
        >>> write_title(figure, "How the bound tightens", "Bands: two standard errors")
        >>> len(figure.get_suptitle().splitlines())
        2
    """
    width = int(13 * figure.get_size_inches()[0])  # letters
    wrapped = [textwrap.fill(line, width) for line in lines if line]
    figure.suptitle("\n".join(wrapped), x=0.01, ha="left", fontsize=10)


def label_ends(axes: Axes, beside: bool = False) -> None:
    """Writes the label of each line at its end, in its colour, so that no label lies on another.

    It takes the place of a legend, and reads the same labels. It comes last, when the limits are set: a line that ends
    outside of them is told with an arrow. A label that had to move away from its line is joined to it.

    Args:
        axes: whose lines and error bars are labelled.
        beside: labels stand beside the last point instead of outside of the axes, as single points need it.

    Examples:
        >>> from ppl_vae.plots.style import label_ends, new_figure, tidy
        >>> axes = tidy(new_figure(6, 4).add_subplot())
        >>> for height in (0.5, 1.0):
        ...     lines = axes.plot([0, 1], [0, height], label=f"up to {height}")
        >>> label_ends(axes)
        >>> [text.get_text() for text in axes.texts]
        ['up to 0.5', 'up to 1.0']
    """
    axes.autoscale_view()  # limits that nobody set are late otherwise
    ends = []
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        line: Any = handle.lines[0] if isinstance(handle, ErrorbarContainer) else handle
        points = line.get_transform().transform(line.get_xydata())
        points = axes.transAxes.inverted().transform(points[np.isfinite(points).all(1)])
        if len(points):
            ends.append((*points[-1], _off_the_scale(label, points[-1][1]), line.get_color()))
    ends.sort(key=lambda end: end[1])
    texts = [axes.annotate(text, (1, 0), (1.03, 0.5), color=color, **_WRITTEN) for _, _, text, color in ends]
    if not texts:
        return
    figure: Any = axes.get_figure(root=True)
    figure.draw_without_rendering()  # only then are the sizes known
    area = axes.get_window_extent()
    sizes = np.array([text.get_window_extent().height for text in texts]) / area.height
    placed = _spread(np.array([y for _, y, _, _ in ends]), 1.05 * sizes)
    gap = 6 * figure.dpi / 72 / area.width  # 6 points
    for text, (x, y, _, color), size, height in zip(texts, ends, sizes, placed, strict=True):
        inside = float(np.clip(y, 0, 1))
        text.xy = (x, inside)
        text.set_position((x + gap if beside else max(1.0, x) + gap, height))
        if abs(height - inside) > size / 2 or (not beside and x < 0.93):
            axes.annotate("", text.xy, text.get_position(), arrowprops=_JOINED | {"color": color}, **_WRITTEN)


def _off_the_scale(label: str, y: float) -> str:
    return label if -1e-6 <= y <= 1 + 1e-6 else f"{'↑' if y > 1 else '↓'} {label}, off the scale"


def _spread(wanted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Moves heights, which are in order, as little as leaves each label its size; inside 0 to 1 where there is room."""
    before = np.cumsum(sizes) - sizes / 2  # where each middle would lie if all lay on a heap
    left_over = 1 - sizes.sum()
    low = min(0.0, left_over / 2)
    return np.asarray(isotonic_regression(wanted - before).x).clip(low, max(low, left_over)) + before


def show(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG and says where it is; in a notebook, draws it below the cell too.

    Args:
        figure: to be shown.
        path: of the file to write; its folder is made where it is missing.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from ppl_vae.plots.style import new_figure, show
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     show(new_figure(2, 1), Path(folder) / "empty.png")  # doctest: +ELLIPSIS
        figure: ...empty.png
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as new:
        figure.savefig(new, dpi=120, format="png")
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        display(Image(filename=str(path)))
    else:
        print(f"figure: {path}")
