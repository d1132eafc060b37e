"""The pairs of a run, made again from its settings: modules of the same shape, to be filled from its files."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from ppl_vae.guides import ExactPosterior
from ppl_vae.models import BayesianModel
from ppl_vae.pairs.autoguides import gaussian_of_buffers
from ppl_vae.pairs.restore import local_parameters, random_state_kept
from ppl_vae.runs.tables import table_model
from ppl_vae.runs.zoo import SHARED_MODELS, Builder, shared_guide

Pairs = dict[str, tuple[nn.Module, nn.Module]]


def rebuilt(kind: str, names: list[str], settings: Mapping[str, Any], data: Mapping[str, Any]) -> Pairs:
    """Makes the pairs of a run, by their names.

    Args:
        kind: "images", "table" or "shared".
        names: of the pairs.
        settings: of the run, as its record keeps them.
        data: what the record keeps of the data.
    """
    with random_state_kept():
        return _MAKERS[kind](names, settings, data)


def shared_start(name: str, seed: int) -> tuple[BayesianModel, tuple[Tensor, ...]]:
    """Makes a model of shared latents and the data that it comes with, from a seed."""
    pyro.set_rng_seed(seed)
    entry = SHARED_MODELS[name]
    data = entry.data()
    return entry.make(*data), data


def _of_images(names: list[str], settings: Mapping[str, Any], data: Mapping[str, Any]) -> Pairs:
    hidden = tuple(settings["hidden"])
    builder = Builder(
        data["name"], data["pixels"], data["classes"], settings["latents"], hidden, settings["likelihood"]
    )
    pairs: Pairs = {}
    model = builder.model(settings["model"])
    for name in names:
        if settings.get("joint") and pairs:
            model = builder.model(settings["model"])
        pairs[name] = model, builder.guide(name, model)
    return pairs


def _of_a_table(names: list[str], settings: Mapping[str, Any], data: Mapping[str, Any]) -> Pairs:
    model = table_model(settings, len(data["columns"]))
    return {name: (model, ExactPosterior(model)) for name in names}


def _shared(names: list[str], settings: Mapping[str, Any], data: Mapping[str, Any]) -> Pairs:
    model, batch = shared_start(settings["model"], settings["seed"])
    pairs: Pairs = {}
    for name in names:
        guide: nn.Module = shared_guide(name, settings["model"], model)
        if name == "auto-laplace":
            guide = gaussian_of_buffers(model, batch)
        elif isinstance(guide, AutoGuide):
            with local_parameters(model, guide):
                guide(*batch)  # an autoguide makes its parameters when it first runs
        pairs[name] = model, guide
    return pairs


_MAKERS: dict[str, Callable[[list[str], Mapping[str, Any], Mapping[str, Any]], Pairs]] = {
    "images": _of_images,
    "table": _of_a_table,
    "shared": _shared,
}
