"""What Pyro's autoguides need that other guides do not: copies that keep their model, and the step after a MAP fit."""

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from pyro.infer.autoguide import AutoGuide, AutoLaplaceApproximation, AutoMultivariateNormal
from pyro.nn import PyroModule
from torch import nn

from ppl_vae.errors import InputError
from ppl_vae.pairs.arguments import Batch, Data, device_batch
from ppl_vae.pairs.modules import Program, own_modules
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.restore import local_parameters, random_state_kept, store_kept
from ppl_vae.pairs.traces import parameter_sites, parameters_recorded

T = TypeVar("T")


class ProgramModule(PyroModule):
    """A function as a module, so that an autoguide of it has parameters of its own and not the global store's.

    Args:
        function: a Pyro program without parameters.
    """

    def __init__(self, function: Program) -> None:
        super().__init__()
        self._function = (function,)  # in a tuple, so that a module behind it is not registered

    def forward(self, *args: Any) -> Any:
        """Runs the function."""
        return self._function[0](*args)


def has_parameters(model: Program, data: Data, *, placeholder: bool = False) -> bool:
    """Says whether a model that is a function meets parameters, which a copy of it would share; nothing is changed.

    Args:
        model: a function.
        data: its arguments.
        placeholder: see :class:`ppl_vae.pairs.probed.Probed`.
    """
    with random_state_kept(), store_kept(), parameters_recorded() as recorded:
        Pair(model, None, data, placeholder=placeholder)
    return bool(parameter_sites(recorded.trace))


def copied(content: T, programs: Iterable[Program | None], memo: dict[int, Any] | None = None) -> T:
    """Copies what holds programs deeply; the copy of an autoguide has the copy of its model.

    Pyro's autoguides take their model out of themselves when they are copied, and the guide that they are a part of:
    the original would then fail, and so would the copy.

    Args:
        content: a program, or a tuple or dict of some.
        programs: the programs in it.
        memo: copies by the ``id`` of what they are of, to be used instead of new ones.
    """
    memo = {} if memo is None else memo
    modules = own_modules(*programs)
    guides = {part: vars(part).copy() for root in modules for part in root.modules() if isinstance(part, AutoGuide)}
    try:
        result = copy.deepcopy(content, memo)
    finally:
        for guide, before in guides.items():
            vars(guide).update({name: before[name] for name in ("_model", "master")})
    for guide in guides:
        if id(guide) in memo:
            vars(memo[id(guide)])["_model"] = copy.deepcopy(vars(guide)["_model"], memo)
    return result


def finished(model: Program, guide: Program, data: Data) -> Program:
    """Returns the guide that a fit was for: of an ``AutoLaplaceApproximation`` the Gaussian around the mode.

    Any other guide is returned as it is.

    Raises:
        InputError: where the density at that point has no maximum, so that there is no Gaussian.
    """
    if not isinstance(guide, AutoLaplaceApproximation):
        return guide
    try:
        with local_parameters(model, guide), torch.enable_grad():
            batch = device_batch(data, model, guide)
            gaussian: AutoMultivariateNormal = guide.laplace_approximation(*batch)
    except torch.linalg.LinAlgError:  # as a Cholesky factor is asked for
        gaussian = None
    if gaussian is None or not all(buffer.isfinite().all() for buffer in gaussian.buffers()):
        raise InputError(
            "AutoLaplaceApproximation has found no maximum of the posterior density: its curvature there is not "
            "positive in all directions, as where a hierarchy's scale falls to 0 and the density grows without bound; "
            "write the model non-centered, fit for more epochs, or take AutoMultivariateNormal"
        )
    return gaussian


def gaussian_of_buffers(model: Program, batch: Batch) -> nn.Module:
    """Makes a guide of the shape that :func:`finished` gives for an ``AutoLaplaceApproximation``, to be filled."""
    gaussian = AutoMultivariateNormal(model)
    with local_parameters(model, gaussian):
        gaussian(*batch)
    for name in ("loc", "scale", "scale_tril"):
        value = getattr(gaussian, name).detach().clone()
        delattr(gaussian, name)
        gaussian.register_buffer(name, value)
    return gaussian
