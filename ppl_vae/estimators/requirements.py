"""What an estimator asks of a guide, and the error where a pair does not have it."""

from collections.abc import Iterable
from typing import Any

from pyro.infer import ELBO, RenyiELBO
from pyro.poutine import Trace
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.pairs.traces import latent_sites


def require_reparameterized(guide_trace: Trace, estimator: str) -> None:
    """Raises InputError where a draw of the guide has no gradient, which a pathwise estimator would miss silently."""
    for site in latent_sites(guide_trace):
        if not site["fn"].has_rsample:
            discrete = getattr(site["fn"].support, "is_discrete", False)
            remedy = (
                "it is discrete: take score-function, rloo, disarm, relax or enumeration, or the biased gumbel-softmax"
                if discrete
                else "build the guide without reparameterized=False, or take score-function"
            )
            raise InputError(
                f"{estimator} differentiates through the draws of z, and those of site {site['name']!r} "
                f"({type(site['fn']).__name__}) have no gradient; {remedy}"
            )


def require_not_reparameterized(guide_trace: Trace, estimator: str) -> None:
    """Raises InputError where Pyro would take a site's pathwise gradient instead of the score function."""
    for site in latent_sites(guide_trace):
        if site["fn"].has_rsample:
            raise InputError(
                f"{estimator} takes the score function where draws have no gradient, but Pyro reparameterizes site "
                f"{site['name']!r}: build the guide with reparameterized=False, or take reinforce"
            )


def require_known(elbo: ELBO, guide_trace: Trace, trained: Iterable[Tensor]) -> None:
    """Refuses a guide with which one of Pyro's own ELBOs would give a wrong gradient without a word.

    Raises:
        InputError: for ``RenyiELBO`` on a draw without a gradient, and for a neural baseline that is not trained.
    """
    if isinstance(elbo, RenyiELBO):
        for site in latent_sites(guide_trace):
            if not site["fn"].has_rsample:
                raise InputError(
                    f"RenyiELBO's gradient is zero at site {site['name']!r} ({type(site['fn']).__name__}), whose draws "
                    "are not reparameterized: take VIMCO from ppl_vae.estimators for the same bound at alpha 0"
                )
    known = {id(leaf) for leaf in trained}
    for site in latent_sites(guide_trace):
        network = _baseline(site)
        if network is not None and any(id(leaf) not in known for leaf in network.parameters()):
            raise InputError(
                f"the nn_baseline of site {site['name']!r} is not registered, so nothing trains it: call "
                'pyro.module("baseline", nn_baseline) in the guide, make it a submodule of the guide, or take '
                "NeuralBaseline from ppl_vae.estimators"
            )


def _baseline(site: dict[str, Any]) -> nn.Module | None:
    network = site["infer"].get("baseline", {}).get("nn_baseline")
    return network if isinstance(network, nn.Module) else None
