"""One run of a pair, and the terms of its log-weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch, batch_size, rows
from ppl_vae.pairs.modules import Program, follows_rows
from ppl_vae.pairs.traces import Site, random_sites, trace_guide, trace_model
from ppl_vae.pairs.units import Unit, unit_of

_FEW = (4, 3)  # data points of the first runs


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

    def by_point(self, program: str, batch: Batch) -> Tensor:
        """Returns what one of the programs, model or guide, gives each data point, shape (particles, points)."""
        return self.unit.by_point(random_sites(getattr(self, program)), batch, len(self.prior))


def run(
    model: Program,
    guide: Program,
    batch: Batch,
    particles: int,
    nesting: int,
    draw: Callable[[Site], Tensor] | None = None,
    check: Callable[[Trace], object] | None = None,
    plate: str | None = None,
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
    prior, likelihood = unit.split(model_trace, zeros)
    proposed = unit.sum(random_sites(guide_trace), zeros)
    return Run(guide=guide_trace, model=model_trace, unit=unit, prior=prior, likelihood=likelihood, proposed=proposed)


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


def first_run(
    alone: Callable[[Batch], Run], batch: Batch, guide: Program | None, device: torch.device
) -> tuple[Batch, Run]:
    """Runs a pair for the first time, on as few rows as tell what has a log-weight of its own; returns them, and it.

    A few rows will do where that is a data point. All are run where they share a latent, where the programs take no
    fewer (a plate of a fixed length, an autoguide, which makes its parameters for the rows of its first run), and where
    another plate is as long as these few by chance.
    """
    size = batch_size(batch)
    counts = [count for count in _FEW if count < size] if follows_rows(guide) else []
    told: Exception | None = None
    for count in counts:
        part = rows(batch, size, 0, count, device)
        try:
            once = alone(part)
        except Exception as error:
            told = told or error
            continue
        if not once.unit.whole:
            return part, once
        told = None
        break
    part = rows(batch, size, 0, size, device)
    try:
        return part, alone(part)
    except InputError:
        raise
    except Exception as error:
        raise told or error from None


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
