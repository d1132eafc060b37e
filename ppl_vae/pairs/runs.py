"""One run of a pair, and the terms of its log-weights."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch, batch_size, rows
from ppl_vae.pairs.modules import Program, follows_rows, modules_of
from ppl_vae.pairs.restore import undone_on_error
from ppl_vae.pairs.traces import Site, latent_sites, random_sites, trace_guide, trace_model
from ppl_vae.pairs.units import Unit, unit_of
from ppl_vae.pairs.weighed import Weighing

FEW = (4, 3)  # data points of the first runs


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The terms of the log-weights in nats, shape (particles, units) each; see :mod:`ppl_vae.pairs.units`.

    Attributes:
        prior: log p(z).
        likelihood: log p(x | z).
        proposed: log q(z | x).
    """

    prior: Tensor
    likelihood: Tensor
    proposed: Tensor

    @property
    def joint(self) -> Tensor:
        """The joint density log p(x, z), shape (particles, units)."""
        return self.prior + self.likelihood

    @property
    def log_weights(self) -> Tensor:
        """The log-weights log p(x, z) - log q(z | x), shape (particles, units)."""
        return self.joint - self.proposed


@dataclass(frozen=True, kw_only=True)
class Run(Terms):
    """One run of a pair: its traces, and the terms of the log-weights.

    Attributes:
        guide: the guide's trace.
        model: the model's, on the guide's draws.
        unit: what has a log-weight of its own.
        points: what each data point adds to that of the whole data set, shape (particles, points), where asked for.
        weighing: the weights of the divergence in the objective that is trained; None where it is the bound.

    Examples:
        >>> import torch
        >>> from ppl_vae.estimators import IWAE
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> run = IWAE(num_particles=3).run(VAE(64, 2), Amortized(Diagonal(2), 64), (x,))
        >>> run.log_weights.shape
        torch.Size([3, 5])
    """

    guide: Trace
    model: Trace
    unit: Unit
    points: Tensor | None = None
    weighing: Weighing | None = None

    @property
    def weighed(self) -> Terms:
        """The terms of the objective: these ones, with the weights of the divergence where it has any."""
        if self.weighing is None:
            return self
        if not self.weighing.gates:
            factor = self.weighing.factor
            return Terms(prior=self.prior * factor, likelihood=self.likelihood, proposed=self.proposed * factor)
        zeros = torch.zeros_like(self.prior)
        prior, proposed = (
            self.unit.sum(self.weighing.sites(latent_sites(trace)), zeros) for trace in (self.model, self.guide)
        )
        return Terms(prior=prior, likelihood=self.likelihood, proposed=proposed)


def run(
    model: Program,
    guide: Program,
    batch: Batch,
    particles: int,
    nesting: int,
    draw: Callable[[Site], Tensor] | None = None,
    check: Callable[[Trace], object] | None = None,
    plate: str | None = None,
    points: bool = False,
) -> Run:
    """Runs the guide, then the model on its draws; parameters are wherever Pyro now keeps them.

    Args:
        model: the model.
        guide: its guide.
        batch: the arguments of both.
        particles: draws of z for each data point, in one plate.
        nesting: how many plates of the programs' own lie below the particles.
        draw: the value of a latent, from its site in the guide; the drawn one where None.
        check: sees the guide's trace before the model runs, and may raise.
        plate: the name of the plate that holds the data, where it is known.
        points: where the unit is the whole data set, tell what each data point adds, too.

    Raises:
        InputError: where the two are no pair (:func:`ppl_vae.pairs.pairing.mismatches`), or where it can't be told
            which plate holds the data.
    """
    guide_trace = propose(guide, batch, particles, nesting, draw)
    if check is not None:
        check(guide_trace)
    model_trace = trace_model(model, guide_trace, batch, particles, nesting)
    unit = unit_of(guide_trace, model_trace, batch_size(batch), plate)
    zeros = unit.zeros(batch, particles)
    traces = {"guide": guide_trace, "model": model_trace, "unit": unit}
    if not (points and unit.has_parts):
        prior, likelihood = unit.split(model_trace, zeros)
        proposed = unit.sum(random_sites(guide_trace), zeros)
        return Run(**traces, prior=prior, likelihood=likelihood, proposed=proposed)
    none = torch.zeros(particles, batch_size(batch), device=zeros.device)
    latent = [site for site in random_sites(model_trace) if not site["is_observed"]]
    observed = [site for site in random_sites(model_trace) if site["is_observed"]]
    of_all, of_points = zip(
        *(unit.sum_and_points(sites, zeros, none) for sites in (latent, observed, random_sites(guide_trace))),
        strict=True,
    )
    terms = dict(zip(("prior", "likelihood", "proposed"), of_all, strict=True))
    return Run(**traces, **terms, points=of_points[0] + of_points[1] - of_points[2])


def propose(
    guide: Program, batch: Batch, particles: int, nesting: int, draw: Callable[[Site], Tensor] | None = None
) -> Trace:
    """Runs the guide alone, as :func:`run` does before the model."""
    if draw is None:
        return trace_guide(guide, batch, particles, nesting)
    with _Redraw(draw):
        return trace_guide(guide, batch, particles, nesting)


class _Redraw(Messenger):
    """Changes a latent's value after the plates have spread it and before the trace, inside, keeps it."""

    def __init__(self, draw: Callable[[Site], Tensor]) -> None:
        super().__init__()
        self.draw = draw

    def _pyro_post_sample(self, msg: dict[str, Any]) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            msg["value"] = self.draw(msg)


class _HasUnit(Protocol):
    @property
    def unit(self) -> Unit: ...


Shown = TypeVar("Shown", bound=_HasUnit)


def first_run(
    alone: Callable[[Batch], Shown], batch: Batch, programs: tuple[Program | None, ...], device: torch.device
) -> tuple[Batch, Shown]:
    """Runs a pair for the first time, on as few rows as tell what has a log-weight of its own; returns them, and it.

    A few rows will do where that is a data point. All are run where they share a latent, where the programs take no
    fewer (a plate of a fixed length, an autoguide, which makes its parameters for the rows of its first run), and where
    another plate is as long as these few by chance. Parameters that a run in vain has made for its rows are undone.

    Args:
        alone: runs the pair on some rows.
        batch: the arguments of both programs.
        programs: the model and its guide.
        device: where they run.
    """
    size = batch_size(batch)
    modules = modules_of(*programs)
    for count in FEW if all(map(follows_rows, programs)) else ():
        part = rows(batch, size, 0, count, device)
        if count < size:
            with suppress(Exception), undone_on_error(modules):  # what is wrong is told of all rows
                once = alone(part)
                if once.unit.whole:
                    raise InputError("a few rows are not the whole data set")
                return part, once
    part = rows(batch, size, 0, size, device)
    return part, alone(part)


def stacked(site: Site, particles: int, nesting: int, own: int) -> Tensor:
    """Returns a site's value with its particles first, the batch shape that it has without them behind, then its event.

    Args:
        site: of a trace whose particles are in a plate outside of ``nesting`` dimensions, or in none where one is run.
        particles: how many there are.
        nesting: dimensions of the programs' own.
        own: how many of them the site has.
    """
    batch = ((1,) * nesting + tuple(site["fn"].batch_shape))[-nesting:]
    event = tuple(site["fn"].event_shape)
    value = site["value"].expand(particles, *batch, *event)
    return value.reshape(particles, *batch[nesting - own :], *event)
