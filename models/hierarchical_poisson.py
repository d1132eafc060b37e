"""Counts in groups: latents of all the data, of each group and of each data point in one model."""

from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.models.bayesian import BayesianModel, require_shape


class HierarchicalPoisson(BayesianModel):
    """Overdispersed counts in groups: x_i ~ Poisson(exposure_i exp(mu + tau g_group(i) + sigma e_i)).

    A Poisson regression with random effects of the groups and of the observations (Gelman & Hill 2007, section 15.1).
    Shared by all: mu ~ N(0, 2^2), tau ~ HalfNormal(1) and sigma ~ HalfNormal(1), sites "mu", "tau" and "sigma". In the
    plate "groups", of size ``groups``: "group_raw" g ~ N(0, 1), and deterministic "group_effects" = tau g. In the plate
    "data": "data_raw" e ~ N(0, 1). Rates are events per unit of exposure, effects are on the log scale.

    It is called as ``model(x, group, exposure)``: the counts, as floating-point numbers, the index of each one's
    group, long from 0 on, and exposures above 0, all of shape (data,).

    Args:
        groups: the number of groups; one without data is allowed.

    Raises:
        InputError: for no groups.

    Examples:
        >>> from ppl_vae.models import HierarchicalPoisson
        >>> x, group, exposure = HierarchicalPoisson.simulate(groups=3, per_group=2)
        >>> group
        tensor([0, 0, 1, 1, 2, 2])
        >>> HierarchicalPoisson(groups=3)(x, group, exposure).shape
        torch.Size([6])
    """

    given_names = ("group", "exposure")

    def __init__(self, groups: int) -> None:
        super().__init__()
        require_count("groups", groups, 1)
        self.groups = groups

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples the latents of all three levels and observes x, shape (data,)."""
        group, exposure = self._checked(x, given)
        zero, one = x.new_zeros(()), x.new_ones(())
        mu = pyro.sample("mu", dist.Normal(zero, 2.0))
        tau = pyro.sample("tau", dist.HalfNormal(one))
        sigma = pyro.sample("sigma", dist.HalfNormal(one))
        with pyro.plate("groups", self.groups, dim=-1):
            raw = pyro.sample("group_raw", dist.Normal(zero, one))
            effects = pyro.deterministic("group_effects", tau * raw, event_dim=0)
        with pyro.plate("data", len(x), dim=-1):
            noise = pyro.sample("data_raw", dist.Normal(zero, one))
            log_rate = mu + effects[..., group] + sigma * noise
            return pyro.sample("x", dist.Poisson(exposure * log_rate.exp()), obs=x)

    def _checked(self, x: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        require_shape(self, "x", x, x.shape[:1], "pass one count for each data point")
        group, exposure = self.inputs(x, given)
        require_shape(self, "exposure", exposure, (len(x),), "pass torch.ones(len(x)) where all are equal")
        if torch.jit.is_tracing():
            return group, exposure
        if group.dtype != torch.long or group.shape != x.shape:
            raise InputError(
                f"group is {group.dtype} of shape {tuple(group.shape)}, but HierarchicalPoisson needs indices, "
                f"torch.int64 of shape {(len(x),)}: number the groups from 0 on"
            )
        if len(group):
            lowest, highest = (int(end) for end in group.aminmax())
            if lowest < 0 or highest >= self.groups:
                raise InputError(
                    f"group goes from {lowest} to {highest}, but HierarchicalPoisson has the groups 0 to "
                    f"{self.groups - 1}: number them from 0 on, or make the model with more groups"
                )
        return group, exposure

    @classmethod
    def simulate(
        cls, groups: int, per_group: int, mu: float = 1.0, tau: float = 0.6, sigma: float = 0.3, seed: int = 0
    ) -> tuple[Tensor, ...]:
        """Draws counts from the model at fixed hyperparameters, exposures uniform from 0.5 to 2.

        Args:
            groups: how many groups.
            per_group: the data points of each; their rows lie together.
            mu: the mean log rate.
            tau: the standard deviation of the groups' effects.
            sigma: the standard deviation of the data points' effects.
            seed: of a generator of its own.

        Returns:
            counts, group and exposure, each of shape (groups * per_group,).

        Raises:
            InputError: where there is no group, or none has data.
        """
        require_count("groups", groups, 1)
        require_count("per_group", per_group, 1)
        own: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed)}
        group = torch.arange(groups).repeat_interleave(per_group)
        exposure = 0.5 + 1.5 * torch.rand(len(group), **own)
        log_rate = mu + tau * torch.randn(groups, **own)[group] + sigma * torch.randn(len(group), **own)
        return torch.poisson(exposure * log_rate.exp(), **own), group, exposure

    @classmethod
    def for_data(cls, x: Tensor, *given: Tensor) -> Self:
        """Makes the model with as many groups as there are indices up to the largest."""
        return cls(int(given[0].max()) + 1)

    @classmethod
    def example_data(cls) -> tuple[Tensor, ...]:
        """Simulated counts, group and exposure of 20 groups with 10 data points each, all of shape (200,)."""
        return cls.simulate(groups=20, per_group=10)
