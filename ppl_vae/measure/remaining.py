"""What a training has left to gain in the ELBO: by going on with it, and by the best parameters of each data point."""

import math
from contextlib import nullcontext
from typing import Any

import pyro
import torch
import xarray as xr
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.errors import require_count
from ppl_vae.measure.contestants import can_be_split
from ppl_vae.measure.refinement import refined
from ppl_vae.pairs.arguments import Batch, Data, batch_of, batch_size
from ppl_vae.pairs.autoguides import copied
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.restore import random_state_kept
from ppl_vae.training.arguments import set_seed
from ppl_vae.training.converged import Converged
from ppl_vae.training.fit import fit

_EPOCHS_OF_ALL, _EPOCHS = 20_000, 100


@runs_a_pair
def remaining(
    model: Program,
    guide: Program,
    data: Data,
    *,
    nats: float = 0.02,
    epochs: int | None = None,
    elbo: ELBO | None = None,
    particles: int = 1000,
    points: int = 200,
    seed: int | None = None,
    progress: bool = True,
    **fit_options: Any,
) -> xr.Dataset:
    """Measures how far the ELBO of a trained pair lies below what its training could still reach.

    A copy of the pair is trained on, with :class:`ppl_vae.Converged`, to the mean of its parameters where no more than
    ``nats`` are predicted to be left: what the copy gains is the part of the parameters. What the best parameters of
    each data point gain over those that the guide gives it (:func:`ppl_vae.refine`) is the part of the amortization,
    which no training of this encoder needs to reach. Both differences are taken with the same draws on either side.

    Neither model nor guide is changed. A frozen model stays as it is, so that the guide alone is trained on.

    Args:
        model: any Pyro program that is a module, or has no parameters.
        guide: its guide, a module.
        data: the training data: a tensor or a tuple of tensors, one row a data point.
        nats: where going on ends, for each data point; for the data set, where its points share a latent.
        epochs: the most to go on for; 20,000 where the data share a latent, else 100, where None.
        elbo: what the pair was trained with; ``Trace_ELBO()`` where None.
        particles: draws of z for each data point that the differences are measured by, at least 2.
        points: of how many data points, taken at random.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.
        fit_options: passed to :func:`ppl_vae.fit`, ``lr`` and ``batch_size`` most of all.

    Returns:
        A dataset in nats, for each data point (for the data set, where its points share a latent): ``parameters``, what
        the copy gained, with ``parameters_se``, the standard error of its draws and of the choice of data points;
        ``predicted``, what is predicted to be left even then; and where the guide has a family and parameters of each
        data point, ``amortization`` (data) with ``amortization_se``. Attribute ``ended`` says why the copy's training
        ended, and ``epochs`` after how many.

    Raises:
        InputError: for what ``fit`` and ``refine`` refuse.

    Examples:
        >>> from pyro.infer.autoguide import AutoNormal
        >>> from ppl_vae import fit, remaining
        >>> from ppl_vae.models import LinearRegression
        >>> x, inputs = LinearRegression.example_data()
        >>> model = LinearRegression.for_data(x, inputs)
        >>> guide = AutoNormal(model)
        >>> options = {"lr": 0.02, "batch_size": len(x), "seed": 0, "progress": False}
        >>> history = fit(model, guide, (x, inputs), epochs=200, **options)
        >>> left = remaining(model, guide, (x, inputs), nats=0.5, **options)
        >>> float(left.parameters) > 0.5  # 200 steps were too few
        True
    """
    require_count("particles", particles, 2)
    require_count("points", points, 1)
    if epochs is not None:
        require_count("epochs", epochs, 1)
    rule, batch, transform = Converged(nats), batch_of(data), fit_options.get("transform")
    options = {"seed": seed, "progress": progress, "description": "going on", **fit_options}
    with random_state_kept() if seed is not None else nullcontext():
        set_seed(seed)
        seen = batch if transform is None else (transform(batch[0]), *batch[1:])
        now = Pair(model, guide, seen)
        now.require_all("what is left to gain")
        later = copied((model, guide), (model, guide))
        usual = _EPOCHS_OF_ALL if now.unit.whole else _EPOCHS
        limit = usual if epochs is None else epochs
        history = fit(*later, batch, elbo=elbo, epochs=limit, until=rule, **options)
        rows = seen if now.unit.whole else _some(seen, points)
        by_parameters, its_error = _gain(Pair(model, guide, rows), Pair(*later, rows), particles, seed)
        between_points = 0.0 if now.unit.whole else float(by_parameters.std()) / math.sqrt(len(by_parameters))
        draws = float(its_error.square().sum().sqrt()) / len(its_error)
        found: dict[str, Any] = {
            "parameters": float(by_parameters.mean()),
            "parameters_se": math.hypot(draws, between_points if len(by_parameters) > 1 else 0.0),
            "predicted": history.remaining,
        }
        if not now.unit.whole and can_be_split(now):
            found |= _amortization(model, guide, rows, particles, seed, progress)
    attributes = {"ended": history.ended, "epochs": len(history.elbo), "units": "nats"}
    return xr.Dataset(found, attrs=attributes | {"unit": "data set" if now.unit.whole else "data point"})


def _amortization(
    model: Program, guide: Program, rows: Batch, particles: int, seed: int | None, progress: bool
) -> dict[str, Any]:
    """Measures what the best parameters of each data point gain over those that the guide gives."""
    pair = Pair(model, guide, rows)
    with pair.measuring(seed):
        best = refined(pair, progress=progress)
    index = torch.arange(batch_size(rows), device=rows[0].device)
    gains, errors = _gain(pair, Pair(model, best, (*rows, index)), particles, seed)
    return {"amortization": ("data", gains.numpy()), "amortization_se": ("data", errors.numpy())}


def _gain(before: Pair, after: Pair, particles: int, seed: int | None) -> tuple[Tensor, Tensor]:
    """Returns how far the ELBO of one pair lies above that of another, and the error: nats, shape (units,) each."""
    state = pyro.util.get_rng_state()
    drawn = []
    for pair in (before, after):
        pyro.util.set_rng_state(state)
        with pair.measuring(seed):
            drawn.append(torch.cat([draws.log_weights.double().cpu() for draws in pair.chunks(particles)], 1))
    gains = drawn[1] - drawn[0]
    return gains.mean(0), gains.std(0) / math.sqrt(particles)


def _some(batch: Batch, points: int) -> Batch:
    size = batch_size(batch)
    if points >= size:
        return batch
    chosen = torch.randperm(size)[:points].sort().values
    return tuple(part[chosen.to(part.device)] for part in batch)
