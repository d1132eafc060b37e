"""What ``ppl-vae train`` on a table shows: all starts, how the best one ended, and a figure of its density."""

from typing import Any

import torch
from matplotlib.figure import Figure
from rich.table import Table as Shown
from torch import Tensor

from ppl_vae.cli.terminal import show
from ppl_vae.cli.watching import ending_lines
from ppl_vae.data.tables import Table
from ppl_vae.models import GaussianMixture, MixtureDensityNetwork
from ppl_vae.plots.mixtures import clusters, conditional_density
from ppl_vae.plots.style import new_figure, write_title
from ppl_vae.training.history import History
from ppl_vae.training.several_starts import Start


def tell_starts(result: dict[str, Any], starts: list[Start]) -> None:
    """Prints all starts, and how good the best one is."""
    of = result["settings"]
    title = f"{of['model']}, {of['components']} components, {of['covariance']}, {of['data']}: {result['rows']} rows"
    shown = _shown(starts, title, result.get("validation_rows", 0))
    of_kept = histories([start for start in starts if start.kept])
    shown.caption = "\n".join([*([str(shown.caption)] if shown.caption else []), *ending_lines(of_kept, "/row")])
    show(shown)
    if "test_nll" in result:
        print(f"test NLL {result['test_nll']:.4f} ± {result['test_nll_se']:.4f} nats, {result['test_rows']} rows")
    else:
        print(f"BIC {result['bic']:.3f}")


def histories(starts: list[Start]) -> dict[str, History]:
    """The trainings by name."""
    return {f"start {start.seed}": start.history for start in starts}


def density_figure(model: torch.nn.Module, table: Table, batch: tuple[Tensor, ...]) -> Figure | None:
    """Draws the density over the table, where it can be drawn."""
    if isinstance(model, GaussianMixture):
        labels = table.targets.long().tolist() if table.targets is not None and table.classes else None
        return clusters(
            table.values,
            model.posterior(table.values).probs,
            model.means,
            model.covariances,
            table.columns,
            f"{table.name}: {model.components} Gaussians, covariance: {model.covariance}",
            labels,
        )
    if not isinstance(model, MixtureDensityNetwork) or batch[1].shape[1] != 1:
        return None
    figure = new_figure(6, 4.5)
    axes = figure.add_subplot()
    spans = [(float(part.min()), float(part.max())) for part in (batch[1], batch[0])]
    conditional_density(model.log_evidence, spans[0], spans[1], axes)
    axes.plot(batch[1], batch[0], ".", ms=2, color="0.3")
    axes.set(xlabel=table.columns[0], ylabel=table.target)
    write_title(figure, f"p({table.target} | {table.columns[0]}): the darker, the denser. Points: the training rows")
    return figure


def _shown(starts: list[Start], title: str, validation_rows: int) -> Shown:
    shown = Shown(title=title)
    if validation_rows:
        shown.caption = (
            f"Each start was stopped at its best epoch by the {validation_rows} validation rows, whose highest mean is "
            "kept; the test rows had no part in it."
        )
    validated = ("validation, nats/row", "best epoch") if validation_rows else ()
    for heading in ("start", "log likelihood, nats", "smallest eigenvalue", *validated, "seconds", ""):
        shown.add_column(heading, justify="right")
    for start in starts:
        eigenvalue = "-" if start.smallest_eigenvalue is None else f"{start.smallest_eigenvalue:.3g}"
        note = " ".join(word for word, true in (("kept", start.kept), ("degenerate", start.degenerate)) if true)
        by_validation = () if start.held_out is None else (f"{start.held_out:.3f}", str(start.epochs))
        figures = (f"{start.log_likelihood:.3f}", eigenvalue, *by_validation, f"{start.seconds:.1f}")
        shown.add_row(str(start.seed), *figures, note)
    return shown
