"""log p(x) on a grid, for models of one or two continuous latents: an oracle for the other estimates."""

import torch
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.evidence.coordinates import Coordinates
from ppl_vae.evidence.path import dataset_of
from ppl_vae.pairs.arguments import Batch, Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import CHUNK_BYTES, Pair
from ppl_vae.pairs.restore import random_state_kept


@runs_a_pair
def quadrature(model: Program, data: Data, *, nodes: int = 401, plate: str | None = None) -> xr.Dataset:
    """Computes log p(x) by the trapezoidal rule, for models of one or two continuous latents.

    It is an oracle for the other estimates.

    A first grid over the prior's range finds where each data point's integrand is; the second one covers that alone.

    Args:
        model: any Pyro program whose latents are continuous.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: its arguments.
        nodes: of the grid, for each latent, at least 3.
        plate: the name of the plate that holds the data, where the programs leave it open.

    Returns:
        A dataset with ``log_evidence`` (data) in nats, float64.

    Raises:
        InputError: for a discrete latent, more than two, or what :func:`ppl_vae.check` finds wrong with data or model.

    Examples:
        >>> import torch
        >>> from ppl_vae.evidence import quadrature
        >>> from ppl_vae.models import LinearGaussian
        >>> quadrature(LinearGaussian(3, 2), torch.randn(5, 3), nodes=51).sizes["data"]
        5
    """
    require_count("nodes", nodes, 3)
    pair = Pair(model, None, data, plate=plate)
    pair.require_sound()
    with pair.measuring(), random_state_kept():
        batch = pair.rows(0, pair.size)
        coordinates = Coordinates(pair, batch)
        if coordinates.dim > 2:
            raise InputError(
                f"quadrature is for one or two latents, the model has {coordinates.dim}: take annealed(model, None, x)"
            )
        drawn = coordinates.vector(pair.proposals(batch, 1000)).flatten(0, 1)
        middle, reach = drawn.mean(0), 8 * drawn.std(0)
        low, high = (middle - reach).expand(pair.units, -1), (middle + reach).expand(pair.units, -1)
        for _ in range(2):
            values, grid = _on_grid(pair, batch, coordinates, low, high, nodes)
            inside = (values > values.amax(0) - 40)[..., None]
            spacing = (high - low) / (nodes - 1)
            low = torch.where(inside, grid, torch.inf).amin(0) - spacing
            high = torch.where(inside, grid, -torch.inf).amax(0) + spacing
        values, grid = _on_grid(pair, batch, coordinates, low, high, nodes)
        evidence = values.double().logsumexp(0) + ((high - low) / (nodes - 1)).double().log().sum(-1)
        return dataset_of({"log_evidence": evidence})


def _on_grid(
    pair: Pair, batch: Batch, coordinates: Coordinates, low: Tensor, high: Tensor, nodes: int
) -> tuple[Tensor, Tensor]:
    """Returns log p(x, u) on a grid between the corners of each data point, (nodes^dim, batch), and the grid itself."""
    ticks = [torch.linspace(0, 1, nodes, dtype=low.dtype, device=low.device)] * coordinates.dim
    unit = torch.stack(torch.meshgrid(*ticks, indexing="ij"), -1).flatten(0, -2)[:, None]
    grid = low + unit * (high - low)
    densities = []
    for part in grid.split(max(2, CHUNK_BYTES // (pair.largest_bytes * pair.size))):
        values, log_det = coordinates.values(part)
        prior, likelihood = pair.log_joint(batch, values, len(part))
        densities.append(prior + likelihood + log_det)
    return torch.cat(densities), grid
