"""Annealed importance sampling: log p(x) by way of many distributions between a start and the posterior."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
import xarray as xr

from ppl_vae.evidence.path import Path, Target, chunks, dataset_of, temperatures, with_error
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.log_means import of_chains
from ppl_vae.pairs.mistakes import require_sound
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import evaluating
from ppl_vae.pairs.traces import batch_size


def annealed(
    model: Program,
    *batch: Any,
    guide: Program | None = None,
    steps: int = 500,
    chains: int = 16,
    leapfrog: int = 10,
    schedule: str = "sigmoid",
    progress: Callable[[int], object] | None = None,
) -> xr.Dataset:
    """log p(x) of each data point by annealed importance sampling.

    A pilot run with a few chains of its own adapts the step size of each data point at each temperature; the run
    that counts keeps these, so its weights stay unbiased and the estimate a stochastic lower bound.

    Args:
        model: any Pyro program whose continuous latents live in the plate "data".
        batch: its arguments, one row a data point.
        guide: where to start: q(z | x) of this guide, the model's prior where None.
        steps: distributions on the way.
        chains: for each data point, at least 2.
        leapfrog: steps of one Hamiltonian move, which is one for each distribution.
        schedule: "sigmoid", "geometric" or "linear" spacing of the temperatures.
        progress: called with the number of data points that were just finished.

    Returns:
        A dataset with dimension data, in nats: ``log_evidence``, ``log_evidence_se`` (by the spread of the chains'
        weights, such that 1.96 of it on either side make a 95% interval for so many chains) and ``log_evidence_bias``
        (how far a mean over so few chains lies below log p(x), to first order; both are NaN where the weights vary too
        much to tell, see :mod:`ppl_vae.pairs.log_means`);
        ``acceptance`` (the mean over the moves), ``ess`` (of the chains' weights).

    Raises:
        InputError: for a discrete latent, too few chains or steps, an unknown schedule, or what ``check`` finds wrong.
    """
    path = Path(temperatures(schedule, steps), leapfrog, chains)
    require_sound(model, guide, *batch)
    weights, acceptances = [], []
    with evaluating(model, guide), pyro.validation_enabled(False), explained(model, guide, *batch):
        for part in chunks(model, batch, chains):
            target = Target(model, guide, part)
            sizes, _ = path.adapt(target)
            weight, acceptance = path.forward(target, sizes)
            weights.append(weight.cpu())
            acceptances.append(acceptance.cpu())
            if progress is not None:
                progress(batch_size(part))
    whole = torch.cat(weights, 1)
    found = with_error("log_evidence", of_chains(whole)) | {
        "acceptance": torch.cat(acceptances),
        "ess": (2 * whole.logsumexp(0) - (2 * whole).logsumexp(0)).exp(),
    }
    return dataset_of(found, steps=steps, chains=chains, leapfrog=leapfrog, schedule=schedule)
