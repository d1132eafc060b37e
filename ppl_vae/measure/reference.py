"""The gradient that estimators are compared with: exact where a pair allows it, else the mean of many draws."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO, TraceGraph_ELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from ppl_vae.errors import InputError, require_count
from ppl_vae.estimators import Pathwise, Reinforce
from ppl_vae.estimators.base import LogWeightELBO, redrawn
from ppl_vae.estimators.enumeration import Enumeration, GaussHermite, fits_gauss_hermite
from ppl_vae.evidence.exact import states_of
from ppl_vae.graphs.noise import RandomOperations, generators
from ppl_vae.measure.per_draw_gradients import buffers_kept, drawing, held
from ppl_vae.pairs.arguments import Data, device_batch
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.mistakes import require_sound
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.restore import local_parameters, random_state_kept, seeded
from ppl_vae.pairs.traces import latent_sites, random_sites, trace, trace_guide, trace_model
from ppl_vae.training.arguments import require_elbo

_AGREE = 1e-4
_AT_ONCE = 2**26  # numbers


@dataclass(frozen=True)
class Reference:
    """A gradient to compare with.

    Attributes:
        mean: of minus the bound, all parameters side by side, float64.
        error: its standard error, the same shape; zero where it is exact.
        source: how it was found.
    """

    mean: Tensor
    error: Tensor
    source: str


@runs_a_pair
def reference_gradient(
    model: Program,
    guide: Program,
    data: Data,
    *,
    elbo: ELBO | None = None,
    draws: int = 100_000,
    seed: int | None = None,
    progress: bool = True,
) -> Reference:
    """Computes the gradient of minus the ELBO, exactly where it can be.

    That is by all states or by quadrature, else by many draws.

    Quadrature is for a diagonal normal of one or two latents. Neither is used for a pair that it does not fit: one with
    scales, with factors outside the data's plate, with random numbers of its own beside the latents, or with data
    points that depend on each other's latents.

    Args:
        model: any Pyro program.
        guide: its guide; one with ``reparameterized=False`` is reparameterized for this alone.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the one batch whose gradient
            is sought.
        elbo: take this estimator's mean instead, for a bound that is not the ELBO (``IWAE(5)``, say).
        draws: where it comes to that: of the pathwise gradient, or of the score function's where latents are discrete.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Raises:
        InputError: for fewer than 2 draws, discrete latents that densities of other data points depend on, or what
            :func:`ppl_vae.check` finds wrong with data and pair.

    Examples:
        >>> import torch
        >>> from ppl_vae import reference_gradient
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import LinearGaussian
        >>> x = torch.randn(5, 3)
        >>> reference_gradient(LinearGaussian(3, 1), Amortized(Diagonal(1), 3), x, draws=100, progress=False).source
        'quadrature'
    """
    if elbo is not None:
        require_elbo(elbo)
    require_count("draws", draws, 1)
    if draws < 2:
        raise InputError(f"draws is {draws}; an error needs at least 2")
    batch = device_batch(data, model, guide)
    require_sound(model, guide, batch)
    with seeded(seed), _reparameterized(guide):
        if elbo is None:
            with random_state_kept(), torch.no_grad(), local_parameters(model, guide), buffers_kept(model, guide):
                guide_trace = trace_guide(guide, batch, 1, 0)
                random = _random_beside(model, guide, batch, guide_trace)
            sites = latent_sites(guide_trace)
            if random:
                exact = None
            elif len(sites) == 1 and states_of(sites[0]["fn"]) is not None:
                exact = _by_rules(model, guide, batch, (Enumeration(), Enumeration(staggered=True)), "enumeration")
            elif fits_gauss_hermite(guide_trace):
                exact = _by_rules(
                    model, guide, batch, (GaussHermite(64), GaussHermite(51, staggered=True)), "quadrature"
                )
            else:
                exact = None
            if exact is not None:
                return exact
            pathwise = all(site["fn"].has_rsample for site in sites)
            if not pathwise and _interacting(model, guide, batch):
                raise InputError(
                    "the density of one data point depends on the latents of another, which the plate says it doesn't: "
                    "the score function's gradient would miss that; draw the whole batch as one data point"
                )
            elbo, source = (Pathwise(), "pathwise draws") if pathwise else (TraceGraph_ELBO(), "score-function draws")
        else:
            source = f"draws of {type(elbo).__name__}"
        return _by_draws(model, guide, batch, elbo, draws, f"{draws} {source}", progress)


def _by_rules(
    model: Program, guide: Program, batch: tuple[Any, ...], rules: Sequence[LogWeightELBO], source: str
) -> Reference | None:
    """Takes the gradient by two rules, whose difference is the error; None where that is not small.

    They differ for a ReLU's kinks, and where the density of one data point depends on the latents of another, which
    stand in another order in the second rule.
    """
    gradients = []
    for rule in rules:
        with drawing(model, guide, rule, batch) as draw:
            try:
                gradients.append(draw(1)[0].double())
            except Exception:  # scales, factors of no data point, a program that doesn't spread over states
                return None
    error = (gradients[0] - gradients[1]).abs()
    return Reference(gradients[0].cpu(), error.cpu(), source) if error.norm() <= _AGREE * gradients[0].norm() else None


def _random_beside(model: Program, guide: Program, batch: tuple[Any, ...], guide_trace: Trace) -> bool:
    """Says whether a pair with given latents still draws random numbers, as dropout does: no sum holds them all."""
    before, noticed = generators(), RandomOperations()
    with noticed:
        trace_model(model, trace(guide, batch, given=guide_trace), batch, 1, 0)
    return bool(noticed.count) or generators() != before


def _interacting(model: Program, guide: Program, batch: tuple[Any, ...]) -> bool:
    """Says whether log-weights change with other data points' latents, put in another order of particles."""
    count, probe = 3, Reinforce(3)
    order = (torch.arange(count)[:, None] + torch.arange(len(batch[0]))) % count
    with random_state_kept(), torch.no_grad(), local_parameters(model, guide), buffers_kept(model, guide):
        try:
            run = probe.run(model, guide, batch)
            points = torch.arange(len(batch[0]))
            moved = redrawn(run.guide, lambda site: site["value"][order, points])
            after = trace_model(model, moved, batch, count, max(1, int(probe.max_plate_nesting)))
            joint = run.unit.sum(random_sites(after), run.unit.zeros(batch, count))
        except Exception:  # a pair without log-weights of its data points
            return False
    return not torch.allclose(joint, run.joint[order, points], rtol=1e-4, atol=1e-4)


def _by_draws(
    model: Program, guide: Program, batch: tuple[Any, ...], elbo: ELBO, draws: int, source: str, progress: bool
) -> Reference:
    """Takes the mean of draws and its error, by sums of differences from the first draws' mean.

    These keep their digits where sums of squares would not.
    """
    shown = stage("reference gradient", draws, progress, shorten="draws")
    with drawing(model, guide, elbo, batch) as draw, shown as advance:
        held(draw.elbo)
        step = max(1, min(1000, _AT_ONCE // draw.size))
        total, squares = torch.zeros((), device=batch[0].device), torch.zeros((), device=batch[0].device)
        for start in range(0, draws, step):
            part = draw(min(step, draws - start), advance).double()
            if not start:
                origin = part.mean(0)
            part -= origin
            total, squares = total + part.sum(0), squares + part.square().sum(0)
    shift = total / draws
    variance = (squares / draws - shift.square()).clamp(min=0) / max(1, draws - 1)
    return Reference((origin + shift).cpu(), variance.sqrt().cpu(), source)


@contextmanager
def _reparameterized(guide: Program) -> Iterator[None]:
    """Lets a guide with ``reparameterized=False`` draw by its path meanwhile."""
    module: Any = guide
    switched = isinstance(guide, nn.Module) and getattr(guide, "reparameterized", None) is False
    try:
        if switched:
            module.reparameterized = True
        yield
    finally:
        if switched:
            module.reparameterized = False
