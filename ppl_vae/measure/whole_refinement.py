"""The best member of a guide's family for the whole data set, where its points share a latent."""

from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.measure.antithetic import Antithetic, Climb
from ppl_vae.pairs.autoguides import copied
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.progress import stage


def refined_whole(
    pair: Pair, lr: float, particles: int, steps: int, rounds: int, tolerance: float, progress: bool
) -> nn.Module:
    """Does what :func:`ppl_vae.refine` does where all the data share a latent; call it inside ``pair.measuring``."""
    guide = pair.guide
    leaves = [leaf for leaf in guide.parameters() if leaf.is_floating_point()] if isinstance(guide, nn.Module) else []
    if not leaves:
        raise InputError(
            f"refine optimizes the parameters of a copy of the guide, and {type(guide).__name__} is no module with "
            "any: give an autoguide or a PyroModule"
        )
    pair.require_sound()
    best: Any = copied(guide, (guide,), {id(pair.model): pair.model})
    climbing = pair.with_guide(best)
    leaves = [leaf.requires_grad_() for leaf in best.parameters() if leaf.is_floating_point()]
    gain, batch = torch.zeros(1, device=pair.device), pair.rows(0, pair.size)
    with stage("refine", rounds * steps, progress, shorten="rounds") as advance:
        climb = Climb(climbing, leaves, batch, particles, steps, advance)
        for number in range(rounds):
            before = [leaf.detach().clone() for leaf in leaves]
            climb.round(lr / 2**number)
            gain = _keep_the_better(climbing, leaves, before, 4 * particles)
            if float(gain) < tolerance:
                advance(steps * (rounds - 1 - number))
                break
    best.left = gain
    return best


def _keep_the_better(pair: Pair, leaves: list[nn.Parameter], before: list[Tensor], particles: int) -> Tensor:
    """Puts the parameters back where a round made them worse; returns the gain in nats, shape (1,)."""
    state, after = pyro.util.get_rng_state(), [leaf.detach().clone() for leaf in leaves]
    elbos = []
    for values in (before, after):
        pyro.util.set_rng_state(state)
        _put(leaves, values)
        with Antithetic(particles):
            elbos.append(pair.weigh(pair.rows(0, pair.size), particles).double().mean(0))
    if not bool(elbos[1] > elbos[0]):
        _put(leaves, before)
    return (elbos[1] - elbos[0]).clamp(min=0)


def _put(leaves: list[nn.Parameter], values: list[Tensor]) -> None:
    with torch.no_grad():
        for leaf, value in zip(leaves, values, strict=True):
            leaf.copy_(value)
