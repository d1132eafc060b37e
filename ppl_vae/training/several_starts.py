"""Maximum likelihood where log p(x) is exact: the objective, and several starts of which the best is kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyro
from torch import Tensor, nn

from ppl_vae.errors import InputError, require_count, shown
from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.pairs.arguments import Data, batch_of, require_maker, require_plain
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import evaluating, local_parameters
from ppl_vae.training.checkpoints import in_use_by_this_run
from ppl_vae.training.fit import fit
from ppl_vae.training.history import History
from ppl_vae.training.patience import Patience


class LogEvidence(LogWeightELBO):
    """Maximizes log p(x) itself, by the model's ``log_evidence``: the ELBO of the exact guide, without a draw of z.

    A mixture's latent is summed out in one pass; ``TraceEnum_ELBO`` with the empty guide gives the same numbers
    through Pyro's tensor contraction. The guide is not called.

    Examples:
        >>> import torch
        >>> from ppl_vae import LogEvidence, fit, no_guide
        >>> from ppl_vae.models import GaussianMixture
        >>> x = torch.cat([torch.randn(50, 2) - 4, torch.randn(50, 2) + 4])
        >>> mixture = GaussianMixture(2, 2).initialize(x)
        >>> len(fit(mixture, no_guide, x, elbo=LogEvidence(), epochs=3, progress=False).elbo)
        3
    """

    runs_guide = False

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Gives log p(x) in nats for each data point, and once more for the gradient."""
        if not isinstance(model, nn.Module) or not hasattr(model, "log_evidence"):
            raise InputError(
                f"{getattr(model, '__name__', type(model).__name__)} has no log_evidence(x): train it with a guide, "
                "and Trace_ELBO say"
            )
        with local_parameters(model):
            log_evidence = model.log_evidence(*batch)  # type: ignore[operator]
        return log_evidence, log_evidence

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        raise InputError("LogEvidence draws no z, so it has no traces: take TraceEnum_ELBO where these are needed")

    def _register(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> None:
        """Registers the model, so that a plain SVI script finds its parameters."""
        if isinstance(model, nn.Module) and not pyro.settings.get("module_local_params"):
            pyro.module("LogEvidence", model)


def no_guide(*batch: Any) -> None:
    """Samples nothing: the guide where ``LogEvidence`` or ``TraceEnum_ELBO`` sums out every latent.

    Examples:
        >>> import torch
        >>> from ppl_vae import no_guide
        >>> no_guide(torch.zeros(5, 2)) is None
        True
    """


def _tensors_of(data: Any) -> tuple[Tensor, ...]:
    """Returns the held-out data as arguments of the model; InputError where they are none."""
    first = data[0] if isinstance(data, tuple | list) and data else data
    require_plain("the held-out data", first)
    if isinstance(first, Tensor) and first.dim() and not len(first):
        raise InputError("the held-out data are empty: give some rows, or None")
    batch = batch_of(data)
    for part in batch:
        if not isinstance(part, Tensor):
            raise InputError(f"the held-out data hold a {type(part).__name__}; expected a tensor or a tuple of some")
    return batch


def total_log_evidence(model: nn.Module, batch: tuple[Tensor, ...]) -> float:
    """Sums log p(x) over the data, in nats."""
    device = next(model.parameters()).device
    with evaluating(model), explained(model, None, batch):
        return float(model.log_evidence(*(part.to(device) for part in batch)).double().sum())  # type: ignore[operator]


@dataclass(frozen=True)
class Start:
    """The record of one start of :func:`best_of`.

    Attributes:
        seed: of its initialization.
        log_likelihood: the sum of log p(x) over the training data at its end, in nats.
        smallest_eigenvalue: of its covariances, None for a model without ``smallest_eigenvalue``.
        degenerate: whether it ended in a degenerate optimum, by the model's own ``degenerate``.
        seconds: of its training.
        kept: whether it is the one that was kept.
        held_out: the mean of log p(x) over the held-out data, in nats; None where there are none.
        epochs: the number of epochs after which its parameters were taken.
        history: of its training; its ``validation`` is that of the held-out data.

    Examples:
        >>> from ppl_vae import Start
        >>> start = Start(seed=0, log_likelihood=-310.5, smallest_eigenvalue=0.2, degenerate=False, seconds=1.5)
        >>> start.kept
        False
    """

    seed: int
    log_likelihood: float
    smallest_eigenvalue: float | None
    degenerate: bool
    seconds: float
    kept: bool = False
    held_out: float | None = None
    epochs: int | None = None
    history: History = field(default_factory=lambda: History(0), compare=False, repr=False)


@runs_a_pair
def best_of(
    make: Callable[[int], nn.Module],
    data: Data,
    *,
    starts: int = 10,
    seed: int = 0,
    held_out: Data | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    **fit_options: Any,
) -> tuple[nn.Module, list[Start]]:
    """Trains a model from several starts; keeps the highest likelihood among those that are not degenerate.

    With held-out data, each start gets the parameters of the epoch where their bound is highest, by
    :class:`ppl_vae.Patience`, and their likelihood decides among the starts (Prechelt 1998): a flexible model's
    likelihood of its training data says how far it has overfitted.

    Args:
        make: a model from a seed, ``lambda seed: GaussianMixture(4, 3).initialize(x, seed)`` say.
        data: the training data, as for :func:`ppl_vae.fit`.
        starts: how many.
        seed: the first start's; the others follow it.
        held_out: data like the training data, to stop by and to choose by; not the data that the result is tested on.
        patience: epochs without a higher bound of the held-out data after which a start is broken off; None goes
            through all epochs.
        checkpoint: a folder that keeps each start as it goes on and ends: the same call goes on from there with the
            numbers of one without a break. A folder of other settings is refused.
        fit_options: passed to :func:`ppl_vae.fit`; the objective is :class:`LogEvidence` unless ``elbo`` and
            ``guide`` say otherwise. With another rule as ``until``, the held-out data do not stop a start, but choose.

    Returns:
        The best model and all starts in their order.

    Raises:
        InputError: for no start, no patience, empty held-out data, what ``fit`` refuses, or a ``checkpoint`` of other
            settings or in use by another run.

    Examples:
        >>> import torch
        >>> from ppl_vae import best_of
        >>> from ppl_vae.models import GaussianMixture
        >>> x = torch.cat([torch.randn(50, 2) - 4, torch.randn(50, 2) + 4])
        >>> mixture, starts = best_of(
        ...     lambda seed: GaussianMixture(2, 2).initialize(x, seed), x, starts=2, epochs=2, progress=False
        ... )
        >>> [start.seed for start in starts], sum(start.kept for start in starts)
        ([0, 1], 1)
    """
    require_maker("make", make, "a seed")
    require_count("starts", starts, 1)
    best_epoch = Patience(patience)
    batch, held_out = batch_of(data), None if held_out is None else _tensors_of(held_out)
    until = fit_options.pop("until", None)
    if "validation" in fit_options:
        raise InputError("best_of chooses by the data that it stops by: give them as held_out, not as validation")
    if until is not None and patience is not None:
        raise InputError(f"patience is {patience}, and until is {shown(until)}: give one of them")
    if until is None and held_out is not None:
        until = best_epoch
    guide = fit_options.pop("guide", no_guide)
    elbo = fit_options.pop("elbo", None) or LogEvidence()
    models: list[nn.Module] = []
    results: list[Start] = []
    folder = None if checkpoint is None else Path(checkpoint)
    with in_use_by_this_run(folder, "name another folder"):
        for number in range(seed, seed + starts):
            model = make(number)
            began = time.perf_counter()
            history = fit(
                model,
                guide,
                data,
                elbo=elbo,
                seed=number,
                description=f"start {number}",
                validation=held_out,
                until=until,
                checkpoint=None if folder is None else folder / f"start {number}.pt",
                **fit_options,
            )
            # of which the most may be that of an earlier call
            seconds = max(time.perf_counter() - began, sum(history.seconds))
            start = Start(
                number,
                total_log_evidence(model, batch),
                getattr(model, "smallest_eigenvalue", None),
                bool(getattr(model, "degenerate", False)),
                seconds,
                held_out=None if held_out is None else total_log_evidence(model, held_out) / len(held_out[0]),
                epochs=None if held_out is None else until.epoch if isinstance(until, Patience) else len(history.elbo),
                history=history,
            )
            models.append(model)
            results.append(start)
    best = max(range(starts), key=lambda number: _rank(results[number]))
    return models[best], [replace(start, kept=number == best) for number, start in enumerate(results)]


def _rank(start: Start) -> tuple[bool, float]:
    return not start.degenerate, start.log_likelihood if start.held_out is None else start.held_out
