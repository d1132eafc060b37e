"""Whether a guide is calibrated, found out by fitting it to data that the model draws from known parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from ppl_vae.errors import InputError, require_count
from ppl_vae.evidence import simulate
from ppl_vae.measure.calibration import calibration
from ppl_vae.measure.named import at_draws
from ppl_vae.measure.posterior import drawn
from ppl_vae.pairs.arguments import Data, batch_of, require_maker
from ppl_vae.pairs.autoguides import ProgramModule, copied, finished, has_parameters
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program, follows_rows
from ppl_vae.pairs.pair import Pair
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.restore import seeded, store_kept
from ppl_vae.training.fit import fit, freeze

__all__ = ["simulation_based_calibration"]
_FEWEST = 10  # simulations, of which calibration tells anything; as many failures and no success are a mistake
_SEEDS = 2**31

Values = dict[str, np.ndarray]


@runs_a_pair
def simulation_based_calibration(
    model: Program,
    make_guide: Callable[[Any], Program],
    data: Data,
    *,
    simulations: int = 100,
    draws: int = 200,
    seed: int = 0,
    progress: bool = True,
    **fit_options: Any,
) -> xr.Dataset:
    """Fits guides to data sets that the model draws, and finds where their true parameters lie (Yao et al. 2018).

    Each simulation draws latents from the prior and data from the likelihood, fits a new guide to these data alone, and
    draws from it. If the guide could be the posterior, the share of its draws below the true value would be uniform;
    of a guide that is wrong but not biased that share is symmetric. It judges guide and training together, on average
    over the prior's data sets, not on the data at hand.

    Args:
        model: any Pyro program whose latents are continuous, and which observes one of its arguments. Its parameters
            are held fixed: it is copied first.
        make_guide: makes a new guide of the model that it is given, such as ``AutoNormal`` or ``ExactPosterior``.
        data: the model's arguments, of which the observed one is only looked at for its size.
        simulations: at least 10.
        draws: of each guide.
        seed: of all random numbers; those of each simulation do not depend on what the others do.
        progress: a progress bar on standard error.
        fit_options: passed to :func:`ppl_vae.fit`: ``epochs``, ``lr``, ``elbo``, ``schedule``, ...

    Returns:
        What :func:`ppl_vae.measure.calibration.calibration` returns, for each component of the latents and of what the
        model names by ``pyro.deterministic``. Attributes: ``simulations``, the number that were asked for; ``failed``,
        how many of them are not among the results, because the training diverged or the draws are not finite;
        ``failure``, the last of their errors.

    Raises:
        InputError: for fewer simulations than 10, a model that can't be simulated from, or where the first 10
            simulations fail or fewer than 10 succeed.

    Examples:
        >>> from ppl_vae import simulation_based_calibration
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearRegression
        >>> x, inputs = LinearRegression.example_data()
        >>> data = x[:20], inputs[:20, :2]
        >>> model = LinearRegression(features=2)
        >>> found = simulation_based_calibration(model, ExactPosterior, data, simulations=20, draws=50, progress=False)
        >>> found.parameter.values.tolist(), found.p.shape, found.attrs["failed"]
        (['weights[0]', 'weights[1]', 'weights[2]'], (3, 20), 0)
    """
    require_count("simulations", simulations, _FEWEST)
    require_count("draws", draws, 4)
    require_maker("make_guide", make_guide, "the model")
    batch = batch_of(data)
    fixed = _fixed(model, batch)
    seeds = np.random.default_rng(seed).integers(0, _SEEDS, size=simulations)
    truths: list[Values] = []
    found: list[Values] = []
    failures: list[InputError] = []
    with stage("simulations", simulations, progress, shorten="simulations") as advance:
        for number in seeds:
            try:
                truth, values = _one(fixed, make_guide, batch, draws, int(number), fit_options)
                truths.append(truth)
                found.append(values)
            except InputError as error:
                failures.append(error)
                if len(failures) == _FEWEST and not truths:
                    raise InputError(f"the first {_FEWEST} simulations have all failed: {error}") from error
            advance(1)
    if len(truths) < _FEWEST:
        raise InputError(
            f"{len(truths)} of {simulations} simulations succeeded, and {_FEWEST} are needed; the last failure: "
            f"{failures[-1]}"
        ) from failures[-1]
    result = calibration(_stacked(truths), _stacked(found))
    failure = str(failures[-1]) if failures else ""
    return result.assign_attrs(simulations=simulations, failed=len(failures), failure=failure)


def _stacked(each: list[Values]) -> Values:
    return {name: np.stack([one[name] for one in each]) for name in each[0]}


def _one(
    model: nn.Module, make_guide: Callable[[Any], Program], data: Any, draws: int, seed: int, options: dict[str, Any]
) -> tuple[Values, Values]:
    """Draws one data set, fits a guide to it, and returns the true values and the draws by name."""
    with seeded(seed), store_kept():
        simulated, latents = simulate(model, data)
        guide = make_guide(model)
        if _can_be_trained(guide):
            fit(model, guide, simulated, progress=False, **options)
            guide = finished(model, guide, simulated)
        pair = Pair(model, guide, simulated)
        with pair.measuring():
            values, _ = drawn(pair, draws, 1, progress=False)
            there = {name: value.to(pair.device) for name, value in latents.items()}
            truth, _ = at_draws(pair, pair.rows(0, pair.size), there, 1)
    for name, value in values.items():
        if not np.isfinite(value.values).all():
            raise InputError(f"the guide's draws of {name!r} are not finite")
    ours = {str(name): value.values[0, 0] for name, value in truth.items()}
    return ours, {name: values[name].values[0] for name in ours}


def _can_be_trained(guide: Program) -> bool:
    """Says whether there is anything to fit; an autoguide makes its parameters when it is first run."""
    if not isinstance(guide, nn.Module) or not follows_rows(guide):
        return True
    return any(leaf.requires_grad for leaf in guide.parameters())


def _fixed(model: Program, batch: Any) -> nn.Module:
    """Copies a model and freezes it, so that the guides alone are fitted; a function becomes a module."""
    if isinstance(model, nn.Module):
        return freeze(copied(model, (model,)))
    if has_parameters(model, batch, placeholder=True):
        raise InputError(
            "the model is a function with parameters, which the fits would change: make it a PyroModule, whose copy is "
            "held fixed"
        )
    return ProgramModule(model)
