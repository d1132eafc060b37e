"""The models of tables by the settings of a run."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ppl_vae.models import GaussianMixture, MixtureDensityNetwork

_FLOOR = 2e-2  # of a network, as on the UCI tables (benchmarks/uci.py)


def table_model(settings: Mapping[str, Any], columns: int) -> GaussianMixture | MixtureDensityNetwork:
    """Makes the model of the settings, for a table of so many columns beside its target."""
    components, covariance = settings["components"], settings["covariance"]
    if settings["model"] == "gaussian-mixture":
        return GaussianMixture(columns, components, covariance)
    hidden = tuple(settings["hidden"])
    return MixtureDensityNetwork(1, components, columns, covariance, hidden, floor=_FLOOR, activation=nn.SiLU)
