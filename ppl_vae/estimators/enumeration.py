"""The exact gradient: every state of the latent, or every node of a grid, weighed by its probability."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.estimators.discrete import factor, one_site
from ppl_vae.evidence.exact import MOST_STATES, states_of
from ppl_vae.pairs.arguments import batch_size
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.traces import latent_sites


class Enumeration(LogWeightELBO):
    """The exact ELBO, sum_z q(z | x) log w(z) over all states: its gradient has no variance.

    It is for one discrete site of at most 65536 states.

    Pyro's ``TraceEnum_ELBO`` does the same for sites of scalar events, one enumerated dimension each; here the bits of
    one event are counted together.

    Args:
        num_particles: without effect, since all states are run.
        staggered: each data point goes through the states in an order of its own, which changes nothing unless the
            density of one depends on the latents of another; there no sum over one's states is exact.
        max_plate_nesting: see :class:`LogWeightELBO`.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import Enumeration
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 3), Amortized(Bernoulli(3), 64)
        >>> fit(*pair, x, elbo=Enumeration(), epochs=1, progress=False).is_bound
        True
    """

    takes_weights = True
    draws_from_guide = False

    def __init__(
        self, num_particles: int | None = None, staggered: bool = False, max_plate_nesting: float = math.inf
    ) -> None:
        super().__init__(num_particles, max_plate_nesting)
        self.staggered = staggered

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns the ELBO itself, which is its own surrogate: the gradient is exact."""
        trace = self.propose(model, guide, batch, 1)
        site = one_site(trace, "enumeration")
        states = states_of(site["fn"])
        if states is None:
            raise InputError(
                f"enumeration needs a discrete latent of at most {MOST_STATES} states; site {site['name']!r} "
                f"({type(site['fn']).__name__}, event shape {tuple(site['fn'].event_shape)}) has more: take rloo, "
                "disarm or relax, or pathwise for a continuous one"
            )
        order = _orders(len(states), batch, self.staggered)
        values = states.to(site["value"])[order]
        run = self.run(
            model, guide, batch, len(states), draw=lambda latent: values.expand(-1, *latent["value"].shape[1:])
        )
        value = (run.proposed.exp() * run.log_weights).sum(0)
        weighed = run.weighed
        return value, value if weighed is run else (run.proposed.exp() * weighed.log_weights).sum(0)


class GaussHermite(LogWeightELBO):
    """The ELBO by the Gauss-Hermite rule, sum_i a_i log w(mu + sigma t_i).

    It is for a diagonal normal q of one or two latents.

    Args:
        nodes: of the rule, for each latent; exact for polynomials of degree 2 nodes - 1.
        staggered: see :class:`Enumeration`.
    """

    def __init__(self, nodes: int = 64, staggered: bool = False) -> None:
        super().__init__(1)
        self.nodes, self.staggered = nodes, staggered

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns the ELBO itself, which is its own surrogate; InputError for another q."""
        trace = self.propose(model, guide, batch, 1)
        site = one_site(trace, "GaussHermite")
        dim = site["fn"].event_shape.numel()
        if not fits_gauss_hermite(trace):
            raise InputError(
                f"GaussHermite is for a diagonal normal of one or two latents, site {site['name']!r} is a "
                f"{type(factor(site)).__name__} of {dim}: take many pathwise draws"
            )
        ticks, weights = (site["value"].new_tensor(part) for part in np.polynomial.hermite_e.hermegauss(self.nodes))
        order = _orders(self.nodes**dim, batch, self.staggered)
        grid = torch.cartesian_prod(*[ticks] * dim).reshape(-1, dim)[order]
        mass = torch.cartesian_prod(*[weights / weights.sum()] * dim).reshape(-1, dim).prod(-1)[order]

        def at_nodes(latent: dict[str, Any]) -> Tensor:
            base = factor(latent)
            return base.loc + base.scale * grid

        run = self.run(model, guide, batch, len(grid), draw=at_nodes)
        value = (mass * run.log_weights).sum(0)
        return value, value


def _orders(count: int, batch: tuple[Any, ...], staggered: bool) -> Tensor:
    """Orders states or nodes: shape (count, 1), or (count, batch) where each data point has an order of its own."""
    # Particle n has every point at its n-th state. Where points don't depend on each other, the sum is equal whatever
    # state comes n-th for which point; where they do, points in step see only equal states of each other, and another
    # order gives another sum. So the two orders tell whether the sum is exact.
    order = torch.arange(count, device=batch[0].device)[:, None]
    return (order + torch.arange(batch_size(batch), device=order.device)) % count if staggered else order


def fits_gauss_hermite(guide_trace: Any) -> bool:
    """Says whether the guide is what :class:`GaussHermite` is for, a diagonal normal of one or two latents."""
    sites = latent_sites(guide_trace)
    return (
        len(sites) == 1
        and isinstance(factor(sites[0]), torch.distributions.Normal)
        and len(sites[0]["fn"].event_shape) == 1
        and sites[0]["fn"].event_shape.numel() <= 2
    )
