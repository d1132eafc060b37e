"""The best member of a guide's family for each data point: what is left of the gap without amortization."""

from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError, is_number, require_count, require_rate, shown
from ppl_vae.measure.antithetic import Antithetic, Climb
from ppl_vae.measure.whole_refinement import refined_whole
from ppl_vae.pairs.arguments import Batch, Data
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.programs import FamilyGuide, last_index

_CHUNK_BYTES = 2**26  # for the largest tensor of a step


class Held(FamilyGuide):
    """A family with the parameters of one batch; its last argument is the index of each data point in that batch.

    Args:
        family: shared with the guide it comes from; it is not registered as a part of this one.
        params: shape (batch, num_params).
        left: how far the ELBO of each data point is likely to be from the best one, nats, shape (batch,); none if None.
    """

    def __init__(self, family: nn.Module, params: Tensor, left: Tensor | None = None) -> None:
        super().__init__()
        self._family = (family,)
        self.held = nn.Parameter(params)
        self.left = left if left is not None else params.new_zeros(len(params))

    @property
    def family(self) -> nn.Module:  # type: ignore[override]
        """The other guide's family, as it stands."""
        return self._family[0]

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns the rows at the index, shape (batch, num_params)."""
        return self.held[last_index(self, x, given)]


@runs_a_pair
def refine(
    model: Program,
    guide: Program,
    data: Data,
    *,
    lr: float = 0.05,
    particles: int = 32,
    steps: int = 500,
    rounds: int = 5,
    tolerance: float = 5e-4,
    plate: str | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Any:
    """Optimizes a guide's parameters for each data point by itself, from where the guide puts them.

    Neither the model nor the guide is changed; a flow's networks stay as they are, and only what they get from the
    encoder is optimized. Rounds of Adam, each with its rate falling to 0 along a cosine and starting at half the one
    before, go on until one gains less than ``tolerance``. After a round each data point keeps the better of its old
    and new parameters, measured with the same noise.

    Where all the data share a latent, the parameters of the guide are those of the one posterior that there is: a copy
    of the guide is optimized as a whole, and what a round made worse is put back.

    Args:
        model: any Pyro model whose latents the guide samples.
        guide: a guide with ``params`` and ``family``: amortized, per data point or semi-amortized; where all the data
            share a latent, any module, such as an autoguide.
        data: a tensor, a tuple of tensors (one row a data point) or a DataLoader: the arguments of both.
        lr: Adam's first learning rate.
        particles: draws of z for each step's gradient, in antithetic pairs.
        steps: steps of a round.
        rounds: rounds at most.
        tolerance: nats per data point, on average.
        plate: the name of the plate that holds the data, where the programs leave it open.
        seed: of the random numbers; None takes them as they come.
        progress: a progress bar on standard error.

    Returns:
        A guide for this very batch, which takes the index as its last argument: its bounds are
        ``bounds(model, refined, (x, torch.arange(len(x))))``. Its attribute ``left``, shape (batch,), is what the
        last round still gained, in nats: since rounds gain less and less, about what is left to gain. Where all the
        data share a latent, the optimized copy of the guide, with such an attribute of shape (1,).

    Raises:
        InputError: for a guide that is no FamilyGuide (no module with parameters, where all the data share a latent),
            whose draws are not reparameterized, or what
            :func:`ppl_vae.check` finds wrong with data and pair.

    Examples:
        >>> import torch
        >>> from ppl_vae import refine
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> refine(VAE(64, 2), Amortized(Diagonal(2), 64), x, steps=5, rounds=1, progress=False).held.shape
        torch.Size([5, 4])
    """
    require_refinement(lr=lr, particles=particles, steps=steps, rounds=rounds, tolerance=tolerance)
    pair = Pair(model, guide, data, plate=plate)
    pair.require_all("the best member of a family")
    with pair.measuring(seed):
        return refined(pair, lr, particles, steps, rounds, tolerance, progress)


def require_refinement(
    lr: float = 0.05, particles: int = 32, steps: int = 500, rounds: int = 5, tolerance: float = 5e-4
) -> None:
    """Raises InputError for options that :func:`refine` can't work with; a TypeError of Python for unknown ones."""
    for name, value, least in (("particles", particles, 2), ("steps", steps, 1), ("rounds", rounds, 1)):
        require_count(name, value, least)
    require_rate(lr)
    if not is_number(tolerance):
        raise InputError(f"tolerance is {shown(tolerance)}; a number of nats is needed")


def refined(
    pair: Pair,
    lr: float = 0.05,
    particles: int = 32,
    steps: int = 500,
    rounds: int = 5,
    tolerance: float = 5e-4,
    progress: bool = True,
) -> Any:
    """Does for a pair what :func:`refine` does; call it inside ``pair.measuring``."""
    if pair.unit.whole:
        return refined_whole(pair, lr, particles, steps, rounds, tolerance, progress)
    guide: Any = pair.guide
    if not isinstance(guide, FamilyGuide):
        raise InputError(
            f"refine needs a guide with params(x) and a family, a FamilyGuide; it got {type(guide).__name__}"
        )
    params, left = [], []
    total = pair.size * rounds * steps
    with local_parameters(pair.model, guide), stage("refine", total, progress, shorten="rounds") as advance:
        for number, part in enumerate(pair.parts(particles, _CHUNK_BYTES)):
            with explained(pair.model, guide, part):
                start = guide.params(*part).detach().clone()
            if not number:
                if not guide.family(start).has_rsample:
                    raise InputError(f"refine climbs reparameterized draws, {type(guide.family).__name__} has none")
                pair.require_sound()
            held = Held(guide.family, start)
            here = (*part, torch.arange(len(start), device=start.device))
            gains = torch.zeros_like(start[:, 0])
            climbing = pair.with_guide(held)
            climb = Climb(climbing, [held.held], here, particles, steps, advance)
            for round_number in range(rounds):
                before = held.held.detach().clone()
                climb.round(lr / 2**round_number)
                gains = _keep_the_better(climbing, held, here, before, 4 * particles)
                if float(gains.mean()) < tolerance:
                    advance(len(start) * steps * (rounds - 1 - round_number))
                    break
            params.append(held.held.detach())
            left.append(gains)
    return Held(guide.family, torch.cat(params), torch.cat(left))


def _keep_the_better(pair: Pair, held: Held, batch: Batch, before: Tensor, particles: int) -> Tensor:
    """Puts back the rows that a round made worse; returns the gains in nats, shape (batch,)."""
    state, after = pyro.util.get_rng_state(), held.held.detach().clone()
    elbos = []
    for params in (before, after):
        pyro.util.set_rng_state(state)
        held.held.copy_(params)
        with Antithetic(particles):
            elbos.append(pair.weigh(batch, particles).double().mean(0))
    better = elbos[1] > elbos[0]
    held.held.copy_(torch.where(better[:, None], after, before))
    return (elbos[1] - elbos[0]).clamp(min=0)
