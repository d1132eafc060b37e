"""What a run's model draws: images, rows of a table, or predictions, each in the file that its users read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_vae.cli import results
from ppl_vae.cli.opening_options import SampleOptions
from ppl_vae.data.tables import load_table
from ppl_vae.errors import InputError
from ppl_vae.measure.arviz import posterior_predictive
from ppl_vae.models import GaussianMixture
from ppl_vae.pairs.restore import evaluating
from ppl_vae.plots import images
from ppl_vae.runs.opened import Run, require_pairs
from ppl_vae.runs.rebuilt import shared_start
from ppl_vae.training.writing import replaced


def draw(run: Run, options: SampleOptions) -> list[Path]:
    """Draws from the run's model and returns the files that were written.

    Raises:
        InputError: for a run without a pair, an unknown guide, or a folder that can't be written.
    """
    require_pairs(run)
    name = options.guide or next(iter(run.pairs))
    if name not in run.pairs:
        raise InputError(f"{run.folder} has no guide {name!r}: choose from {', '.join(run.pairs)}")
    pyro.set_rng_seed(options.seed)
    model: Any
    model, guide = run.pairs[name]
    with evaluating(model, guide):
        return _DRAWN[run.kind](run, model, guide, options, options.to or run.folder)


def _images(run: Run, model: Any, guide: Any, options: SampleOptions, folder: Path) -> list[Path]:
    """Images of the run's size; of a conditional model those of all classes in turn."""
    given = []
    if model.given_count:
        classes = run.data["classes"]
        given = [one_hot(torch.arange(options.count) % classes, classes).float()]
    _, likelihood = model.generate(options.count, *given)
    height, width = run.data["shape"]
    drawn: Tensor = likelihood.sample().clamp(0, 1).reshape(options.count, height, width)
    side = min(10, int(options.count**0.5))
    shown = drawn[: side**2].reshape(side**2, -1)
    results.save(folder / "drawn.png", images.tiles(shown, (height, width), side, "Drawn from p(z) p(x | z)"))
    with replaced(folder / "drawn.npy") as new, new.open("wb") as file:
        np.save(file, drawn.numpy(), allow_pickle=False)
    return [folder / "drawn.npy", folder / "drawn.png"]


def _rows(run: Run, model: Any, guide: Any, options: SampleOptions, folder: Path) -> list[Path]:
    """Rows of a mixture, or the target of a network for rows of its own table."""
    columns = run.data["columns"]
    if isinstance(model, GaussianMixture):
        frame = pd.DataFrame(model.generate(options.count)[1].sample().numpy(), columns=columns)
    else:
        table = load_table(run.settings["data"], run.data_root(options.data_root), run.data["target"])
        rows = table.values[torch.arange(options.count) % len(table.values)]
        frame = pd.DataFrame(rows.numpy(), columns=columns)
        frame[run.data["target"]] = model.generate(options.count, rows)[1].sample().squeeze(-1).numpy()
    with replaced(folder / "drawn.csv") as new:
        frame.to_csv(new, index=False)
    return [folder / "drawn.csv"]


def _predictions(run: Run, model: Any, guide: Any, options: SampleOptions, folder: Path) -> list[Path]:
    """Latents from the guide, and the data that the model predicts with them."""
    _, data = shared_start(run.settings["model"], run.settings["seed"])
    pyro.set_rng_seed(options.seed)
    predicted = posterior_predictive(model, guide, data, draws=options.count)
    with replaced(folder / "drawn.nc") as new:
        predicted.to_netcdf(str(new))
    return [folder / "drawn.nc"]


_DRAWN: dict[str, Callable[[Run, Any, Any, SampleOptions, Path], list[Path]]] = {
    "images": _images,
    "table": _rows,
    "shared": _predictions,
}
