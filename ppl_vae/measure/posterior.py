"""A guide's own draws with names, and how good they are beside a reference's."""

from typing import Any

import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.measure.draws import FEWEST_DRAWS
from ppl_vae.measure.named import at_draws, coordinates, joined
from ppl_vae.measure.posterior_quality import compare_draws
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Draws, Pair

__all__ = ["drawn", "posterior", "posterior_quality"]


@runs_a_pair
def posterior(
    model: Program,
    guide: Program,
    data: Data,
    *,
    draws: int = 1000,
    chains: int = 1,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Draws from the guide, as it is: nothing is weighted or resampled (:func:`ppl_vae.to_arviz` does that).

    Args:
        model: any Pyro program, without a plate below that of the data where each data point has latents of its own.
        guide: its guide; a point mass gives equal draws.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        draws: in each chain, at least 4; all are kept in memory.
        chains: parts of the draws, which are independent all the same.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        The model's latents, and what it names by ``pyro.deterministic``, with dimensions chain, draw, and behind them
        the plates (that of the data is called data) and the event's. It is what ArviZ and
        :func:`ppl_vae.measure.posterior_quality.compare_draws` take. Attribute ``unit``: "data point" or "data set",
        whichever has a log-weight of its own.

    Raises:
        InputError: for too few draws, plates that subsample, or plates below the data.

    Examples:
        >>> from ppl_vae import posterior
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearRegression
        >>> data = LinearRegression.example_data()
        >>> model = LinearRegression.for_data(*data)
        >>> posterior(model, ExactPosterior(model), data, draws=50, progress=False).weights.dims
        ('chain', 'draw', 'weights_dim_0')
    """
    require_count("draws", draws, FEWEST_DRAWS)
    require_count("chains", chains, 1)
    pair = Pair(model, guide, data, plate=plate)
    with pair.measuring(seed):
        return drawn(pair, draws, chains, progress)[0]


@runs_a_pair
def posterior_quality(
    model: Program,
    guide: Program,
    data: Data,
    *,
    reference: Any,
    draws: int = 2000,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Holds a guide's draws against draws of the posterior, of NUTS say: means, standard deviations and distances.

    Where all the data share a latent, the guide's log-weights are used too: k-hat, and the moments that the weights
    correct. Of a guide with a log-weight for each data point, or of a point mass, only the draws are compared.

    Args:
        model: any Pyro program; see :func:`posterior`, likewise the other arguments.
        guide: its guide.
        data: the arguments of both.
        reference: draws of the posterior: what :func:`ppl_vae.nuts` returns, a mapping of names to arrays of shape
            (chains, draws, ...), or ArviZ's data with a group ``posterior``.
        draws: of the guide, at least 25.

    Returns:
        What :func:`ppl_vae.measure.posterior_quality.compare_draws` returns.

    Raises:
        InputError: for what :func:`posterior` and ``compare_draws`` refuse.

    Examples:
        >>> from ppl_vae import posterior, posterior_quality
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearRegression
        >>> data = LinearRegression.example_data()
        >>> model = LinearRegression.for_data(*data)
        >>> exact = ExactPosterior(model)
        >>> reference = posterior(model, exact, data, seed=0, progress=False)
        >>> found = posterior_quality(model, exact, data, reference=reference, seed=1, draws=500, progress=False)
        >>> bool(abs(found.mean_difference).max() < 0.3), bool(found.khat < found.khat_threshold)
        (True, True)
    """
    require_count("draws", draws, 25)
    pair = Pair(model, guide, data, plate=plate)
    with pair.measuring(seed):
        values, weights = drawn(pair, draws, 1, progress)
    return compare_draws(values, reference, weights[:, 0] if pair.unit.whole and pair.is_bound else None)


def drawn(pair: Pair, draws: int, chains: int, progress: bool) -> tuple[xr.Dataset, Tensor]:
    """Draws what :func:`posterior` returns, with the log-weights, shape (chains * draws, units).

    Call it inside ``pair.measuring``.
    """
    pair.require_all("draws of the posterior")
    if pair.nesting > 1 and not pair.unit.whole:
        raise InputError("the guide has plates below the data: draws are kept of latents of each data point only")
    parts, weights = [], []
    done = 0

    def take(some: Draws) -> None:
        nonlocal done
        stop = pair.size if pair.unit.whole else done + some.log_weights.shape[1]
        parts.append(at_draws(pair, pair.rows(done, stop), some.latents, chains)[0])
        weights.append(some.log_weights.cpu())
        done = stop

    pair.each(chains * draws, take, "posterior draws", progress, "draws", latents=True)
    found = joined(parts)
    unit = "data set" if pair.unit.whole else "data point"
    return found.assign_coords(coordinates(found)).assign_attrs(unit=unit), torch.cat(weights, 1)
