"""Maximum likelihood where log p(x) is exact: the objective, and several starts of which the best is kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
from torch import Tensor, nn

from ppl_vae.contexts import evaluating, local_parameters
from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.modules import Program
from ppl_vae.training import fit


class ExactEvidence(LogWeightELBO):
    """log p(x) itself, by the model's ``log_evidence``: the ELBO of the exact guide, without a draw of z.

    A mixture's latent is summed out in one pass; ``TraceEnum_ELBO`` with the empty guide gives the same numbers
    through Pyro's tensor contraction. The guide is not called.
    """

    runs_guide = False

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """In nats for each data point, and once more for the gradient."""
        if not isinstance(model, nn.Module) or not hasattr(model, "log_evidence"):
            raise InputError(
                f"{getattr(model, '__name__', type(model).__name__)} has no log_evidence(x): train it with a guide, "
                "and Trace_ELBO say"
            )
        with local_parameters(model):
            found = model.log_evidence(*batch)  # type: ignore[operator]
        return found, found

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        raise InputError("ExactEvidence draws no z, so it has no traces: take TraceEnum_ELBO where these are needed")

    def _register(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> None:
        """SVI steps the parameters that it meets on the way."""
        if isinstance(model, nn.Module) and not pyro.settings.get("module_local_params"):
            pyro.module("ExactEvidence", model)


def no_guide(*batch: Any) -> None:
    """The empty guide: ``ExactEvidence`` needs none, and ``TraceEnum_ELBO`` sums out every latent that it lacks."""


@dataclass(frozen=True)
class Start:
    """One start of :func:`best_of`.

    Attributes:
        seed: of its initialization.
        log_likelihood: the sum of log p(x) over the training data at its end, in nats.
        smallest_eigenvalue: of its covariances, None for a model without ``smallest_eigenvalue``.
        degenerate: whether it ended in a degenerate optimum, by the model's own ``degenerate``.
        seconds: of its training.
        kept: whether it is the one that was kept.
    """

    seed: int
    log_likelihood: float
    smallest_eigenvalue: float | None
    degenerate: bool
    seconds: float
    kept: bool = False


def best_of(
    make: Callable[[int], nn.Module],
    data: Tensor | tuple[Tensor, ...],
    *,
    starts: int = 10,
    seed: int = 0,
    **fit_options: Any,
) -> tuple[nn.Module, list[Start]]:
    """Trains a model from several starts; keeps the highest likelihood among those that are not degenerate.

    Args:
        make: a model from a seed, ``lambda seed: GaussianMixture(4, 3).initialize(x, seed)`` say.
        data: the training data, as for :func:`ppl_vae.fit`.
        starts: how many.
        seed: the first start's; the others follow it.
        fit_options: passed to :func:`ppl_vae.fit`; the objective is :class:`ExactEvidence` unless ``elbo`` and
            ``guide`` say otherwise.

    Returns:
        The best model and all starts in their order.

    Raises:
        InputError: for no start, or what ``fit`` refuses.
    """
    if starts < 1:
        raise InputError(f"starts is {starts}; at least 1 is needed")
    batch = (data,) if isinstance(data, Tensor) else data
    guide = fit_options.pop("guide", no_guide)
    elbo = fit_options.pop("elbo", None) or ExactEvidence()
    found: list[tuple[nn.Module, Start]] = []
    for number in range(seed, seed + starts):
        model = make(number)
        began = time.perf_counter()
        fit(model, guide, data, elbo, seed=number, description=f"start {number}", **fit_options)
        seconds = time.perf_counter() - began
        with evaluating(model):
            device = next(model.parameters()).device
            total = float(model.log_evidence(*(part.to(device) for part in batch)).double().sum())  # type: ignore[operator]
        eigenvalue = getattr(model, "smallest_eigenvalue", None)
        found.append((model, Start(number, total, eigenvalue, bool(getattr(model, "degenerate", False)), seconds)))
    best = max(range(starts), key=lambda place: (not found[place][1].degenerate, found[place][1].log_likelihood))
    marked = [Start(**(vars(start) | {"kept": place == best})) for place, (_, start) in enumerate(found)]
    return found[best][0], marked
