"""Bidirectional Monte Carlo: log p(x) from both sides, on data that the model itself draws."""

from typing import Any

import pyro
import torch
import xarray as xr
from pyro.poutine import Trace
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.evidence.coordinates import Coordinates
from ppl_vae.evidence.path import dataset_of, path_of, with_error
from ppl_vae.pairs.arguments import Batch, Data
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.log_means import LogMean, of_chains
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.traces import random_sites


@runs_a_pair
def sandwich(
    model: Program,
    data: Data,
    *,
    steps: int = 500,
    chains: int = 16,
    leapfrog: int = 10,
    schedule: str = "sigmoid",
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> tuple[tuple[Any, ...], xr.Dataset]:
    """Bounds log p(x) from below and from above, on data that the model draws (Grosse et al. 2015).

    For data drawn with their latent from the model, that latent is an exact draw from the posterior; annealing from
    it back to the prior gives an upper bound where the forward run gives a lower one. Each chain starts from a draw of
    its own: a tenth of the steps, all at the posterior, take it away from the one that they all come from.

    Args:
        model: any Pyro program whose latents are continuous.
        data: its arguments, as for :func:`ppl_vae.bounds`; the observed one is only looked at for its size, the inputs
            of a conditional model are used as they are.
        steps: see :func:`annealed`; likewise the other arguments.

    Returns:
        The batch with simulated data in it, where the data are, and a dataset with dimension data, in nats: ``lower``,
        ``upper`` and ``log_evidence``, their midpoint, each with ``_se`` and ``_bias`` as in :func:`annealed`;
        ``width`` and ``acceptance``.

    Raises:
        InputError: as :func:`annealed`, or where the model observes none of its arguments.

    Examples:
        >>> import torch
        >>> from ppl_vae import sandwich
        >>> from ppl_vae.models import VAE
        >>> simulated, sides = sandwich(VAE(64, 2), torch.zeros(5, 64), steps=5, leapfrog=2, progress=False)
        >>> sides.sizes["data"]
        5
    """
    path = path_of(steps, chains, leapfrog, schedule)
    pair = Pair(model, None, data, plate=plate, placeholder=True)
    batches, ahead, back, acceptances = [], [], [], []
    with (
        pair.measuring(seed),
        pyro.validation_enabled(False),
        stage("sandwich", pair.units * (3 * steps - 2 + path.mixing), progress, shorten="steps") as path.advance,
    ):
        for part in pair.parts(chains):
            with explained(model, None, part):
                simulated, values = _simulate(pair, part)
                target = path.target(pair, simulated)
                sizes, _ = path.adapt(target)
                weight, acceptance = path.forward(target, sizes)
                u = path.mixed(target, sizes[-1], target.coordinates.vector(values).expand(chains, -1, -1))
                back.append(path.backward(target, sizes, u).cpu())
            ahead.append(weight.cpu())
            acceptances.append(acceptance.cpu())
            batches.append(_where_they_were(simulated, pair.batch))
    lower, inverse = of_chains(torch.cat(ahead, 1)), of_chains(-torch.cat(back, 1))
    upper = LogMean(-inverse.value, inverse.error, inverse.bias)
    middle = LogMean(
        (lower.value + upper.value) / 2, torch.hypot(lower.error, upper.error) / 2, (lower.bias - upper.bias).abs() / 2
    )
    columns = with_error("lower", lower) | with_error("upper", upper) | with_error("log_evidence", middle)
    columns |= {"width": upper.value - lower.value, "acceptance": torch.cat(acceptances)}
    joined = (torch.cat(args) if isinstance(args[0], Tensor) else args[0] for args in zip(*batches, strict=True))
    return tuple(joined), dataset_of(columns, steps=steps, chains=chains, leapfrog=leapfrog)


@runs_a_pair
def simulate(model: Program, data: Data) -> tuple[tuple[Any, ...], dict[str, Tensor]]:
    """Draws z and x from the model: its arguments with x in the place of the observed one, and z by name.

    The latents have a leading dimension of one particle.

    Examples:
        >>> import torch
        >>> from ppl_vae.evidence import simulate
        >>> from ppl_vae.models import VAE
        >>> (x,), latents = simulate(VAE(64, 2), torch.zeros(5, 64))
        >>> x.shape, latents["z"].shape
        (torch.Size([5, 64]), torch.Size([1, 5, 2]))
    """
    pair = Pair(model, None, data, placeholder=True)
    with pair.measuring():
        simulated, values = _simulate(pair, pair.rows(0, pair.size))
    return _where_they_were(simulated, pair.batch), values


def _simulate(pair: Pair, part: Batch) -> tuple[Batch, dict[str, Tensor]]:
    Coordinates(pair, part)  # refuses a model whose latents can't be moved through
    observed = {site["name"]: site["value"] for site in random_sites(pair.model_at(part)) if site["is_observed"]}
    positions = {name: n for name, value in observed.items() for n, arg in enumerate(part) if _same_numbers(arg, value)}
    missing = [name for name in observed if name not in positions]
    if missing:
        raise InputError(
            f"the model observes {missing[0]!r}, which is none of its arguments, at most reshaped: data drawn from "
            "the model could not be given to it; observe an argument itself"
        )
    for name, position in positions.items():
        if sum(arg is part[position] for arg in part) > 1:
            raise InputError(
                f"the observed {name!r} is given as two arguments, one of which would be simulated: copy it"
            )
    generated, values = pair.generated(part)
    simulated = list(part)
    for name, position in positions.items():
        simulated[position] = values.pop(name).reshape(part[position].shape)
    _require_generative(pair, generated, values, tuple(simulated))
    return tuple(simulated), values


def _require_generative(pair: Pair, generated: Trace, latents: dict[str, Tensor], simulated: Batch) -> None:
    """Refuses a model whose density of the data looks at the data, as teacher forcing does: it has not drawn them."""
    sites = [site for site in random_sites(generated) if site["name"] not in latents]
    drawn = pair.unit.sum(sites, pair.unit.zeros(simulated, 1))
    _, read_back = pair.log_joint(simulated, latents, 1)
    if not torch.allclose(drawn, read_back, rtol=1e-3, atol=1e-3):
        names = ", ".join(repr(site["name"]) for site in sites)
        raise InputError(
            f"the density of {names} depends on the data that it is the density of, so the model can't draw data: a "
            "sandwich needs a model that generates them from its latents"
        )


def _where_they_were(batch: Batch, origin: Batch) -> Batch:
    pairs = zip(batch, origin, strict=True)
    return tuple(new.to(old.device) if isinstance(new, Tensor) else new for new, old in pairs)


def _same_numbers(argument: Any, value: Tensor) -> bool:
    """Whether a value is an argument, or a view of all of it in the same order."""
    return argument is value or (
        isinstance(argument, Tensor)
        and (argument.data_ptr(), argument.numel()) == (value.data_ptr(), value.numel())
        and argument.is_contiguous()
        and value.is_contiguous()
    )
