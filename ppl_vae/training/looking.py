"""What is told at the end of a training: from its curve, and from a look at the trained pair on the rows of a step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyro
import torch
from pyro import poutine
from pyro.distributions import MixtureSameFamily
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.optim import Optimizer

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.restore import evaluating, modules_kept, random_state_kept, store_kept
from ppl_vae.pairs.runs import Run, run
from ppl_vae.pairs.traces import Site, bounds_evidence, is_auxiliary, latent_sites, random_sites
from ppl_vae.pairs.units import Unit
from ppl_vae.training.distributed import rank
from ppl_vae.training.health import (
    ACTIVE,
    TrainingWarning,
    collapsed,
    is_off,
    noise_of,
    rate_too_high,
    rate_too_low,
    unmoved,
)
from ppl_vae.training.passes import Passes
from ppl_vae.training.stopping import Training
from ppl_vae.training.trainable import Trainable
from ppl_vae.training.warning import warn_caller

# The look runs the pair a few times without gradients, which costs less than as many steps of so many.
_RUNS, _STEPS = 3, 50
_EPOCHS, _MANY_STEPS = 10, 1000  # a pair that has seen less is not done, whatever it looks like
_SAME = 0.05  # the spread over the data of the scale of a q that is the same for all
_ROWS = 20  # fewer tell nothing about what varies over the data
# that move no parameter by more than about their rate in a step
_ADAPTIVE = {"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "SparseAdam", "ClippedAdam"}
_SEED = 7_310_466_923  # that nobody else takes: columns drawn by the same numbers would be sorted, not shuffled
_MOST = (512, 1024)  # rows and columns of which the relation is found


@dataclass(frozen=True)
class Ended:
    """A training that has ended.

    Attributes:
        programs: the model and the guide.
        curve: the ELBO by epoch, nats per data point; empty where it is of another objective.
        start: that of the first step; None where it is not known.
        steps: in an epoch.
        epochs: that were gone through.
        optimizers: all of them.
        open_end: whether a curve that rises to its end speaks for going on; not where something else ended it.
        plain: whether the steps have gone up what the curve shows; free bits and a KL weight may lower it meanwhile.
        encodes: whether guide and model were trained, each with parameters of its own: a guide of a model that makes no
            use of z is right to be its prior.
        seen: some batches.
    """

    programs: tuple[Program, Program]
    curve: Sequence[float]
    start: float | None
    steps: int
    epochs: int
    optimizers: Sequence[Optimizer]
    open_end: bool
    plain: bool
    encodes: bool
    seen: Sequence[Batch]

    def sentences(self) -> list[str]:
        """Says what looks wrong, one sentence each; the pair, random numbers and the store are left as they were."""
        told, taken = self._of_curve(), self.steps * self.epochs
        if taken < _STEPS or (self.epochs < _EPOCHS and taken < _MANY_STEPS):
            return [told] if told else []
        try:
            noise, collapse = self._look(look_at_latents=self.encodes and not told)
        except Exception:  # a look must not end a training that has gone well, whatever the programs do
            noise, collapse = [], ""
        return [line for line in (told, *noise, collapse) if line]

    def _of_curve(self) -> str:
        rate, taken = _rate(self.optimizers), self.steps * self.epochs
        adaptive = all(type(optimizer).__name__ in _ADAPTIVE for optimizer in self.optimizers)
        reach = rate * taken if adaptive and rate is not None and self.start is not None else math.inf
        told = unmoved(reach, taken, self.epochs, rate) if self.open_end else ""
        # of one under weights, nothing tells but how far it ends below the start
        curve = self.curve if self.plain else self.curve[-1:]
        told = told or rate_too_high(curve, self.start, self.steps, rate)
        return told or (rate_too_low(curve, rate) if self.open_end else "")

    def _look(self, look_at_latents: bool) -> tuple[list[str], str]:
        model, guide = self.programs
        batch = max(self.seen, key=lambda part: len(part[0]))
        with (
            modules_kept(modules_of(model, guide)),
            random_state_kept(),
            store_kept(),
            evaluating(model, guide),
            poutine.block(),
            pyro.validation_enabled(False),
        ):
            with torch.enable_grad():  # which shows whether a scale is learned
                first = run(model, guide, batch, 1, 0)
                noise = [_noise_of(site, first.unit) for site in random_sites(first.model) if site["is_observed"]]
            if not look_at_latents or first.unit.whole or len(batch[0]) < _ROWS:
                return noise, ""
            runs = [first, *(run(model, guide, batch, 1, 0) for _ in range(_RUNS - 1))]
            if not bounds_evidence(runs[0].guide, lambda: runs[-1].guide):
                return noise, ""
        x = torch.cat([part[0].reshape(len(part[0]), -1) for part in self.seen])
        return noise, _collapse(runs, x.double())


def tell(
    training: Training,
    passes: Passes,
    pair: Trainable,
    optimizers: Sequence[Optimizer],
    description: str = "fit",
    open_end: bool = True,
    plain: bool = True,
) -> None:
    """Warns of what looks wrong with a training that has ended, on the first of many processes, and notes it.

    Args:
        training: the training; its history gets the sentences as ``advice``.
        passes: those of the training.
        pair: what was trained.
        optimizers: all of them.
        description: what the sentences begin with, where it is not "fit".
        open_end: see :class:`Ended`.
        plain: likewise.
    """
    if not passes.seen or rank() > 0:
        return
    history = training.history
    ended = Ended(
        (training.model, training.guide),
        [] if history.weighted else history.elbo,
        passes.start,
        passes.steps,
        len(history.elbo),
        optimizers,
        open_end,
        plain,
        0 < len(pair.encoder) < len(pair.parameters) and not pair.unreached,
        passes.seen,
    )
    for line in ended.sentences():
        history.advice.append(line)
        warn_caller(line if description == "fit" else f"{description}: {line}", TrainingWarning)


def _rate(optimizers: Sequence[Optimizer]) -> float | None:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = {float(group.get("initial_lr", group["lr"])) for group in groups if "lr" in group}
    return rates.pop() if len(rates) == 1 else None


def _collapse(runs: Sequence[Run], x: Tensor) -> str:
    """Says whether the draws of some runs don't depend on the data."""
    excess = torch.cat([once.proposed - once.prior for once in runs]).detach().double()
    if not excess.any():  # the guide is the prior itself, which is meant
        return ""
    try:  # the moments of q where it has them, which know no noise but that of other latents' draws
        means, scales = (torch.stack([_moments(once, name) for once in runs]) for name in ("mean", "stddev"))
        constant = bool((scales.mean(0).std(0) < _SAME).all())
    except (NotImplementedError, RuntimeError, InputError):
        means, constant = torch.stack([_latents(once) for once in runs]), False
    within = means.var(0).mean(0) / len(runs)  # what the mean of a few draws varies by itself
    error = within * (2 / means.shape[1]) ** 0.5
    active = int((means.mean(0).var(0) - within > ACTIVE + 3 * error).sum())
    rate = float(excess.mean())
    if not collapsed(rate, active, means.shape[-1], math.inf, constant):
        return ""
    return collapsed(rate, active, means.shape[-1], relation(x), constant)


def _moments(once: Run, name: str) -> Tensor:
    sites = latent_sites(once.guide)
    if any(is_auxiliary(site) for site in sites):
        raise NotImplementedError
    return torch.cat([_by_row(site, once.unit, getattr(site["fn"], name)) for site in sites], 1)


def _latents(once: Run) -> Tensor:
    return torch.cat([_by_row(site, once.unit) for site in latent_sites(once.model)], 1)


def _by_row(site: Site, unit: Unit, value: Tensor | None = None) -> Tensor:
    """Returns a site's value, or another of its shape, as a matrix with a row for each data point."""
    value = site["value"] if value is None else value
    whole = torch.broadcast_shapes(value.shape, (*site["fn"].batch_shape, *site["fn"].event_shape))
    dimension = unit.data_dimension(site) - len(site["fn"].event_shape)
    return value.detach().expand(whole).movedim(dimension, 0).flatten(1).double()


def relation(x: Tensor) -> float:
    """Returns the largest principal component's variance, in units of that of the same columns, each shuffled.

    Near 1 where the columns have nothing in common, and 0 where there are not two of them that vary.
    """
    rows, columns = _MOST
    x = x[:rows, :: -(-x.shape[1] // columns)].cpu()
    x = (x - x.mean(0))[:, x.std(0) > 0]
    if x.shape[1] < 2:
        return 0.0
    x = x / x.std(0)
    generator = torch.Generator().manual_seed(_SEED)
    order = torch.rand(x.shape, generator=generator).argsort(0)
    sides = (part @ part.T if len(part) < part.shape[1] else part.T @ part for part in (x, x.gather(0, order)))
    real, shuffled = (float(torch.linalg.eigvalsh(side)[-1]) for side in sides)
    return real / shuffled


def _noise_of(site: Site, unit: Unit) -> str:
    """Says whether the learned scale of an observed site is far from the data's spread."""
    scale = _learned_scale(site["fn"])
    if scale is None:
        return ""
    whole = (*site["fn"].batch_shape, *site["fn"].event_shape)
    if unit.whole:
        value, scale = site["value"].double().reshape(-1, 1), scale.detach().double().expand(whole).reshape(-1, 1)
    else:
        value, scale = _by_row(site, unit), _by_row(site, unit, scale.expand(whole))
    spread = value.std(0)
    pooled = spread.square().mean().sqrt()
    if len(value) < 2 or not pooled > 0:
        return ""
    # torch's median of a number that was expanded over rows and columns is 0
    ratios = scale.contiguous().median(0).values / torch.where(spread > 0, spread, pooled)
    # one column may be without noise; a scale that all columns share is wide for those that hardly vary
    furthest = float(ratios.median()) if is_off(float(ratios.median())) else float(ratios.min())
    far = (ratios < 1) == (furthest < 1)
    return noise_of(site["name"], furthest, sum(map(is_off, ratios[far].tolist())), len(ratios))


def _learned_scale(fn: Distribution) -> Tensor | None:
    """Returns the scale of a distribution over real numbers, of a mixture its smallest; None if it is not learned."""
    while isinstance(fn, torch.distributions.Independent | pyro.distributions.MaskedDistribution):
        fn = fn.base_dist
    if isinstance(fn, MixtureSameFamily | torch.distributions.MixtureSameFamily):
        parts = fn.component_distribution
        scale = _learned_scale(parts)
        return None if scale is None else scale.amin(-1 - len(fn.event_shape))
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is not constraints.real:
        return None
    own = getattr(fn, "scale", None)
    scale = own if isinstance(own, Tensor) else fn.stddev
    return scale if scale.requires_grad else None
