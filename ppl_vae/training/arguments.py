"""Checks of what ``fit`` is given: a wrong argument would show late, and in other words."""

from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from pyro.optim import PyroOptim
from torch.optim import Optimizer

from ppl_vae.errors import InputError, first_line, require_count, shown
from ppl_vae.training import distributed


def require_arguments(elbo: Any, optimizer: Any, capture: Any, **counts: Any) -> None:
    """Raises an InputError where an argument is not of the kind that ``fit`` expects."""
    for name, value in counts.items():
        require_count(name, value, 1)
    if elbo is not None:
        require_elbo(elbo)
    if isinstance(optimizer, Optimizer) or not (callable(optimizer) or isinstance(optimizer, PyroOptim)):
        raise InputError(
            f"optimizer is {type(optimizer).__name__!r}; expected a function that makes one from the parameters, such "
            "as partial(torch.optim.Adam, lr=1e-3)"
        )
    if not isinstance(capture, str | bool) or capture not in ("auto", "compile", True, False):
        raise InputError(f"capture is {shown(capture)}; expected 'auto', True, False or 'compile'")


def require_elbo(elbo: Any) -> None:
    """Raises an InputError where something is no estimator of a gradient, or one of half a particle, say."""
    if not isinstance(elbo, ELBO):
        raise InputError(f"elbo is {shown(elbo)}; expected a pyro.infer.ELBO that is made, such as Trace_ELBO()")
    require_count(f"num_particles of {type(elbo).__name__}", elbo.num_particles, 1)


def set_seed(seed: int | None) -> None:
    """Seeds all random numbers; None leaves them as they are, which several processes can't be given."""
    if seed is not None:
        pyro.set_rng_seed(seed)
    elif distributed.count() > 1:
        raise InputError(f"{distributed.count()} processes need the same random numbers: give fit a seed")


def resolve_device(device: str | torch.device) -> torch.device:
    """Finds the device that a name means; "auto" is the first GPU where there is one, else the CPU."""
    if not isinstance(device, str | int | torch.device) or isinstance(device, bool):
        raise InputError(f"device is {shown(device)}; expected 'auto', 'cpu', 'cuda' or another name of torch.device")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if not torch.zeros(1, device=resolved).item() == 0:
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"device {str(device)!r} can't be used here ({first_line(error)}): take 'auto' or 'cpu'"
        ) from None
    return resolved
