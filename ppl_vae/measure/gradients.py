"""The laboratory of gradient estimators: mean, bias, variance and cost of the gradient of one pair."""

import copy
import itertools
import time
from functools import partial

import numpy as np
import torch
import xarray as xr
from pyro.infer import ELBO
from torch import Tensor, nn

from ppl_vae.errors import InputError, require_count, require_rate, shown
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.measure.intervals import mean_interval
from ppl_vae.measure.per_draw_gradients import PerDraw, drawing, held
from ppl_vae.measure.reference import Reference
from ppl_vae.pairs.arguments import Data, device_batch
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.restore import random_state_kept, seeded, store_kept
from ppl_vae.training.arguments import require_elbo

_MOST_NUMBERS = 2**29  # in the gradients of all draws: 2 GiB
_LONG = 2.0  # seconds of runs that are timed, where they are slow
_IN_CACHE = 2**17  # numbers, 1 MiB
_OF_PYRO = 100  # steps for the decaying average of a site's baseline, whose half-life is 7
TOTAL = "total"


@runs_a_pair
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
    require_elbo(elbo)
    require_rate(lr)
    require_count("draws", draws, 1)
    if draws < 10:
        raise InputError(f"draws is {draws}; a variance needs at least 10")
    if learning_steps is not None:
        require_count("learning_steps", learning_steps, 0)
    if reference is not None and not isinstance(reference, Reference):
        raise InputError(f"reference is {shown(reference)}; expected what reference_gradient(model, guide, x) returns")
    with seeded(seed), drawing(model, guide, elbo, device_batch(data, model, guide)) as draw:
        if draw.size * draws > _MOST_NUMBERS:
            raise InputError(
                f"{draws} gradients of {draw.size} parameters take {4e-9 * draw.size * draws:.1f} GB: take at most "
                f"{_MOST_NUMBERS // draw.size} draws"
            )
        if reference is not None and len(reference.mean) != draw.size:
            raise InputError(
                f"reference has {len(reference.mean)} components, and the pair's parameters have {draw.size}: it is "
                "that of another pair"
            )
        steps = _learn(draw, learning_steps, lr)
        seconds = _seconds(draw)
        held(draw.elbo)
        with stage("gradients", draws, progress, shorten="draws") as advance:
            gradients = draw(draws, advance)
    return _statistics(gradients, _parts(draw.leaves), _groups(draw.names), seconds, reference).assign_attrs(
        seconds=seconds,
        draws=draws,
        vectorized=int(draw.together),
        learning_steps=steps,
        reference=reference.source if reference is not None else "none",
        estimator=type(elbo).__name__,
        particles=elbo.num_particles,
    )


def _statistics(
    gradients: Tensor,
    parts: list[slice],
    groups: dict[str, list[int]],
    seconds: float,
    reference: Reference | None,
) -> xr.Dataset:
    """Computes what :func:`gradient_statistics` tells of gradients of shape (draws, size)."""
    mean, error, squares = _moments(gradients, parts)
    lengths = np.stack([squares[numbers].sum(0) for numbers in groups.values()])
    low, high = mean_interval(lengths)
    rows: dict[str, dict[str, float]] = {}
    for number, (group, numbers) in enumerate(groups.items()):
        variance, where = float(lengths[number].mean()), [parts[leaf] for leaf in numbers]
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


def _parts(leaves: list[Tensor]) -> list[slice]:
    """Says which components belong to each parameter."""
    ends = np.cumsum([0, *(leaf.numel() for leaf in leaves)]).tolist()
    return [slice(start, end) for start, end in itertools.pairwise(ends)]


def _groups(names: list[str]) -> dict[str, list[int]]:
    """Says which parameters belong to each layer, each program and the whole."""
    members: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        for group in dict.fromkeys((name.rpartition(".")[0], name.split(".")[0], TOTAL)):
            members.setdefault(group, []).append(number)
    return members


def _moments(gradients: Tensor, parts: list[slice]) -> tuple[Tensor, Tensor, np.ndarray]:
    """Returns the mean of each component, its standard error, and squared distances from the mean.

    These are summed over each parameter's components, shape (parameters, draws); their mean over draws is the
    parameter's unbiased variance. All are float64; few columns at a time, which stay in a processor's cache.
    """
    draws = len(gradients)
    mean, error = (torch.empty(gradients.shape[1], dtype=torch.float64, device=gradients.device) for _ in range(2))
    lengths = torch.zeros(len(parts), draws, dtype=torch.float64, device=gradients.device)
    step = max(1, _IN_CACHE // draws)
    for number, part in enumerate(parts):
        for start in range(part.start, part.stop, step):
            columns = slice(start, min(start + step, part.stop))
            values = gradients[:, columns].double()
            mean[columns] = values.mean(0)
            squares = values.sub_(mean[columns]).square_()
            error[columns] = (squares.mean(0) / (draws - 1)).sqrt()
            lengths[number] += squares.sum(1)
    return mean.cpu(), error.cpu(), (lengths * draws / (draws - 1)).cpu().numpy()


def _learn(draw: PerDraw, steps: int | None, lr: float) -> int:
    """Lets the estimator learn, and says in how many steps."""
    elbo = draw.elbo
    if isinstance(elbo, LogWeightELBO):
        network = elbo.learned(draw.model, draw.guide, *draw.batch)
        if steps is None:
            steps = elbo.learning_steps if network is not None or elbo.state else 0
        _teach(elbo, network, draw, steps, lr)
        return steps
    run = partial(elbo.loss_and_grads, draw.model, draw.guide, *draw.batch)
    if steps is None:
        with random_state_kept(), store_kept() as changed:
            run()
            steps = _OF_PYRO if changed() else 0
    for _ in range(steps):
        run()
    return steps


def _teach(elbo: LogWeightELBO, network: nn.Module | None, draw: PerDraw, steps: int, lr: float) -> None:
    """Trains the estimator's network; the pair is held, so no gradient goes back through it."""
    leaves = list(network.parameters()) if network is not None else []
    optimizer = torch.optim.Adam(leaves, lr=lr) if leaves else None
    for _ in range(steps):
        loss = elbo.differentiable_loss(draw.model, draw.guide, *draw.batch)
        if optimizer is not None:
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.grad = gradient
            optimizer.step()


def _seconds(draw: PerDraw) -> float:
    """Measures the median time of one gradient by itself, what the estimator learns from it included."""
    trial = copy.deepcopy(draw.elbo)
    times: list[float] = []
    with random_state_kept(), store_kept():
        began = time.perf_counter()
        while len(times) < 13 and not (len(times) > 5 and time.perf_counter() - began > _LONG):
            for leaf in draw.leaves:
                leaf.grad = None
            start = time.perf_counter()
            trial.loss_and_grads(draw.model, draw.guide, *draw.batch)
            if draw.leaves[0].is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return float(np.median(times[3:]))
