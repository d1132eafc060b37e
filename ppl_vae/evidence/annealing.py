"""Annealed importance sampling: log p(x) by way of many distributions between a start and the posterior."""

import pyro
import torch
import xarray as xr

from ppl_vae.evidence.path import dataset_of, path_of, with_error
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.log_means import of_chains
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.progress import stage


@runs_a_pair
def annealed(
    model: Program,
    guide: Program | None,
    data: Data,
    *,
    steps: int = 500,
    chains: int = 16,
    leapfrog: int = 10,
    schedule: str = "sigmoid",
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Estimates log p(x) of each data point by annealed importance sampling.

    A pilot run with a few chains of its own adapts the step size of each data point at each temperature; the run
    that counts keeps these, so its weights stay unbiased and the estimate a stochastic lower bound.

    Args:
        model: any Pyro program whose latents are continuous.
        guide: where to start: q(z | x) of this guide, or the model's prior where it is None.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        steps: distributions on the way.
        chains: for each data point, at least 2.
        leapfrog: steps of one Hamiltonian move, which is one for each distribution.
        schedule: "sigmoid", "geometric" or "linear" spacing of the temperatures.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        A dataset with dimension data, in nats: ``log_evidence``, ``log_evidence_se`` (by the spread of the chains'
        weights, such that 1.96 of it on either side make a 95% interval for so many chains) and ``log_evidence_bias``
        (how far a mean over so few chains lies below log p(x), to first order; both are NaN where the weights vary too
        much to tell, see :mod:`ppl_vae.pairs.log_means`);
        ``acceptance`` (the mean over the moves), ``ess`` (of the chains' weights).

    Raises:
        InputError: for a discrete latent, too few chains or steps, an unknown schedule, or what ``check`` finds wrong.

    Examples:
        >>> import torch
        >>> from ppl_vae import annealed
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> annealed(VAE(64, 2), None, x, steps=5, chains=2, progress=False).sizes["data"]
        5
    """
    pair = Pair(model, guide, data, plate=plate)
    with pair.measuring(seed):
        return annealed_pair(pair, steps, chains, leapfrog, schedule, progress)


def annealed_pair(
    pair: Pair,
    steps: int = 500,
    chains: int = 16,
    leapfrog: int = 10,
    schedule: str = "sigmoid",
    progress: bool = True,
) -> xr.Dataset:
    """Does for a pair what :func:`annealed` does; call it inside ``pair.measuring``."""
    path = path_of(steps, chains, leapfrog, schedule)
    pair.require_sound()
    weights, acceptances = [], []
    moves = pair.units * (2 * steps - 1)  # of the pilot chains, and of those that count
    with pyro.validation_enabled(False), stage("annealing", moves, progress, shorten="steps") as path.advance:
        for part in pair.parts(chains):
            with explained(pair.model, pair.own_guide, part):
                target = path.target(pair, part)
                sizes, _ = path.adapt(target)
                weight, acceptance = path.forward(target, sizes)
            weights.append(weight.cpu())
            acceptances.append(acceptance.cpu())
    whole = torch.cat(weights, 1)
    columns = with_error("log_evidence", of_chains(whole)) | {
        "acceptance": torch.cat(acceptances),
        "ess": (2 * whole.logsumexp(0) - (2 * whole).logsumexp(0)).exp(),
    }
    return dataset_of(columns, steps=steps, chains=chains, leapfrog=leapfrog, schedule=schedule)
