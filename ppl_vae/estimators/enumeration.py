"""The exact gradient: every state of the latent, weighed by its probability."""

from typing import Any

from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.estimators.discrete import one_site
from ppl_vae.evidence.exact import MOST_STATES, states_of
from ppl_vae.log_weights import Program


class Enumeration(LogWeightELBO):
    """sum_z q(z | x) log w(z) over all states: no variance. For one discrete site of at most 65536 states.

    Pyro's ``TraceEnum_ELBO`` does the same for sites of scalar events, one enumerated dimension each; here the bits of
    one event are counted together.
    """

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """The ELBO itself, whose gradient is exact."""
        trace, _, _ = self.propose(guide, batch, 1, None, model)
        site = one_site(trace, "enumeration")
        states = states_of(site["fn"])
        if states is None:
            raise InputError(
                f"enumeration needs a discrete latent of at most {MOST_STATES} states; site {site['name']!r} "
                f"({type(site['fn']).__name__}, event shape {tuple(site['fn'].event_shape)}) has more: take rloo, "
                "disarm or relax, or pathwise for a continuous one"
            )
        values = states.unsqueeze(1).to(site["value"])
        run = self.run(
            model, guide, batch, len(states), draw=lambda found: values.expand(-1, *found["value"].shape[1:])
        )
        value = (run.proposed.exp() * run.log_weights).sum(0)
        return value, value
