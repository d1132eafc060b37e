"""The house style of all figures: colours, axes without clutter, labels at the lines, and how a figure is shown."""

import sys
from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ppl_vae.training.writing import replaced

# Okabe and Ito's colours, which colour-blind readers tell apart; black is kept for what is exact
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#6A51A3")
_FIRST = ("diagonal", "flow", "full", "delta", "unit", "fixed-scale", "prior", "mixture")  # these keep their colours


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
