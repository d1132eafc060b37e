"""The laboratory of gradient estimators: mean, bias, variance and cost of the gradient of one pair."""

import copy
import time
from functools import partial

import numpy as np
import torch
import xarray as xr
from pyro.infer import ELBO
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.measure.intervals import mean_interval
from ppl_vae.measure.per_draw_gradients import PerDraw, drawing, held
from ppl_vae.measure.reference import Reference
from ppl_vae.pairs.arguments import Data, device_batch
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.restore import random_state_kept, seeded, store_kept

_MOST_NUMBERS = 2**29  # in the gradients of all draws: 2 GiB
_OF_PYRO = 100  # steps for the decaying average of a site's baseline, whose half-life is 7
TOTAL = "total"


def gradient_statistics(
    model: Program,
    guide: Program,
    data: Data,
    *,
    elbo: ELBO,
    draws: int = 1000,
    reference: Reference | None = None,
    learning_steps: int | None = None,
    lr: float = 1e-2,
    seed: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Draws the gradient of one batch many times, with parameters as they are, and says how good it is.

    The gradient is that of minus the bound summed over the batch, in nats per unit of the parameters. ``elbo`` is
    copied, so what it learns here it forgets; nothing else is changed.

    Args:
        model: any Pyro program.
        guide: its guide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the one batch whose gradient
            is drawn.
        elbo: the gradient estimator.
        draws: how many gradients.
        reference: what :func:`ppl_vae.reference_gradient` gives; no bias is told where None.
        learning_steps: steps for what the estimator itself learns (a baseline, a control variate), before the draws
            are made, the pair held as it is. Where None, as many as settle it, so that the variance is that of the
            estimator in use: its own ``learning_steps`` (50 for a running mean, 1000 for a neural baseline, 200 for
            RELAX), 100 for a decaying average of Pyro's, none where nothing is learned. 0 measures it untaught.
            What was learned is held while draws are made, but a decaying average of Pyro's goes on.
        lr: Adam's learning rate in these steps.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        A dataset with dimension ``group``: each layer of model and guide, "model", "guide" and "total".
        ``mean_norm`` the length of the mean gradient; ``variance`` the summed variance of its components, with a
        95% interval ``variance_low`` to ``variance_high`` (:func:`ppl_vae.measure.intervals.mean_interval`), NaN where
        one draw makes more than half of it, too heavy a tail for an interval; ``snr`` the length over the standard
        deviation; ``variance_cost`` variance x seconds; with ``reference`` also ``bias`` the length of the mean's
        difference from it, ``bias_noise`` what the errors of both would give by themselves, and ``bias_z`` the
        largest component in standard errors. ``mean`` and ``mean_se`` have dimension ``component``. Attributes:
        ``seconds`` for one gradient by itself, ``draws``, ``vectorized`` (1 where they were drawn together),
        ``learning_steps`` that were taken, ``reference``.

    Raises:
        InputError: for fewer than 10 draws, more numbers than 2 GiB hold, a pair that the estimator refuses, or what
            :func:`ppl_vae.check` finds wrong with data and pair.

    Examples:
        >>> import torch
        >>> from pyro.infer import Trace_ELBO
        >>> from ppl_vae import gradient_statistics
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> statistics = gradient_statistics(*pair, x, elbo=Trace_ELBO(), draws=20, progress=False)
        >>> bool(statistics.variance.sel(group="total") > 0)
        True
    """
    if draws < 10:
        raise InputError(f"draws is {draws}; a variance needs at least 10")
    with seeded(seed), drawing(model, guide, elbo, device_batch(data, model, guide)) as draw:
        if draw.size * draws > _MOST_NUMBERS:
            raise InputError(
                f"{draws} gradients of {draw.size} parameters take {4e-9 * draw.size * draws:.1f} GB: take at most "
                f"{_MOST_NUMBERS // draw.size} draws"
            )
        steps = _learn(draw, learning_steps, lr)
        seconds = _seconds(draw)
        held(draw.elbo)
        with stage("gradients", draws, progress, shorten="draws") as advance:
            gradients = draw(draws, advance)
        groups = _groups(draw.names, draw.leaves)
    return _statistics(gradients, groups, seconds, reference).assign_attrs(
        seconds=seconds,
        draws=draws,
        vectorized=int(draw.together),
        learning_steps=steps,
        reference=reference.source if reference is not None else "none",
        estimator=type(elbo).__name__,
        particles=elbo.num_particles,
    )


def _statistics(
    gradients: Tensor, groups: dict[str, list[slice]], seconds: float, reference: Reference | None
) -> xr.Dataset:
    """Computes what :func:`gradient_statistics` tells of gradients of shape (draws, size), which are overwritten."""
    mean = gradients.mean(0, dtype=torch.float64)
    squares = gradients.sub_(mean.to(gradients.dtype)).square_()
    error = (squares.mean(0, dtype=torch.float64) / (len(squares) - 1)).sqrt().cpu()
    mean = mean.cpu()
    lengths = {name: _lengths(squares, where) for name, where in groups.items()}
    low, high = mean_interval(np.stack(list(lengths.values())))
    rows: dict[str, dict[str, float]] = {}
    for number, (group, where) in enumerate(groups.items()):
        variance = float(lengths[group].mean())
        here = torch.cat([mean[part] for part in where])
        row = {
            "mean_norm": float(here.norm()),
            "variance": variance,
            "variance_low": float(low[number]),
            "variance_high": float(high[number]),
            "snr": float(here.norm()) / variance**0.5 if variance > 0 else np.inf,
            "variance_cost": variance * seconds,
        }
        if reference is not None:
            difference = torch.cat([mean[part] - reference.mean[part] for part in where])
            noise = torch.cat([(error[part].square() + reference.error[part].square()).sqrt() for part in where])
            floor = 1e-9 + 1e-6 * float(reference.mean.norm())  # of float32 sums
            row |= {
                "bias": float(difference.norm()),
                "bias_noise": float(noise.norm()),
                "bias_z": float((difference.abs() / (noise + floor)).max()),
            }
        rows[group] = row
    variables = {name: ("group", [row[name] for row in rows.values()]) for name in rows[TOTAL]}
    return xr.Dataset(
        {**variables, "mean": ("component", mean.numpy()), "mean_se": ("component", error.numpy())},
        coords={"group": list(rows)},
    )


def _groups(names: list[str], leaves: list[Tensor]) -> dict[str, list[slice]]:
    """Says which components belong to each layer, each program and the whole."""
    components: dict[str, list[slice]] = {}
    start = 0
    for name, leaf in zip(names, leaves, strict=True):
        part = slice(start, start + leaf.numel())
        start = part.stop
        for group in dict.fromkeys((name.rpartition(".")[0], name.split(".")[0], TOTAL)):
            components.setdefault(group, []).append(part)
    return components


def _lengths(squares: Tensor, where: list[slice]) -> np.ndarray:
    """Returns squared distances from the mean, summed over a group's components.

    Their mean is the group's unbiased variance.
    """
    summed = torch.stack([squares[:, part].sum(1, dtype=torch.float64) for part in where]).sum(0)
    return (summed * len(squares) / (len(squares) - 1)).cpu().numpy()


def _learn(draw: PerDraw, steps: int | None, lr: float) -> int:
    """Lets the estimator learn, and says in how many steps."""
    elbo = draw.elbo
    run = partial(elbo.loss_and_grads, draw.model, draw.guide, *draw.batch)
    network = elbo.learned(draw.model, draw.guide, *draw.batch) if isinstance(elbo, LogWeightELBO) else None
    if steps is None:
        if isinstance(elbo, LogWeightELBO):
            steps = elbo.learning_steps if network is not None or elbo.state else 0
        else:
            with random_state_kept(), store_kept() as changed:
                run()
                steps = _OF_PYRO if changed() else 0
    optimizer = torch.optim.Adam(network.parameters(), lr=lr) if network is not None else None
    for _ in range(steps):
        if optimizer is not None:
            optimizer.zero_grad()
        run()
        if optimizer is not None:
            optimizer.step()
    return steps


def _seconds(draw: PerDraw) -> float:
    """Measures the median time of one gradient by itself, what the estimator learns from it included."""
    trial = copy.deepcopy(draw.elbo)
    times = []
    with random_state_kept(), store_kept():
        for _ in range(13):
            for leaf in draw.leaves:
                leaf.grad = None
            start = time.perf_counter()
            trial.loss_and_grads(draw.model, draw.guide, *draw.batch)
            if draw.leaves[0].is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return float(np.median(times[3:]))
