"""A Bayesian mixture: the parameters of Gaussians are latents that all the data share, with equal modes."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.errors import require_count
from ppl_vae.models.bayesian import BayesianModel, require_shape, standardized


class BayesianMixture(BayesianModel):
    """A mixture of Gaussians whose parameters have priors, in units of data that are standardized.

    The sites, each of event shape (components,), are "weights" ~ Dirichlet(2), "means" ~ N(0, 2^2) and "scales" ~
    LogNormal(-0.7, 0.7). Which component a data point comes from is summed out by the mixture density (Diebolt &
    Robert 1994 sample it). The density does not change where components swap names: the posterior has
    ``components``! equal modes.

    It is called as ``model(x)`` with x of shape (data,).

    Args:
        components: the number of Gaussians.

    Raises:
        InputError: for fewer than two components.

    Examples:
        >>> from ppl_vae.models import BayesianMixture
        >>> (x,) = BayesianMixture.example_data()
        >>> BayesianMixture(components=2)(x).shape
        torch.Size([150])
    """

    def __init__(self, components: int = 2) -> None:
        super().__init__()
        require_count("components", components, 2)
        self.components = components

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples weights, means and scales and observes x, shape (data,)."""
        require_shape(self, "x", x, x.shape[:1], "pass one number for each data point, one column of a table")
        ones = x.new_ones(self.components)
        weights = pyro.sample("weights", dist.Dirichlet(2 * ones))
        means = pyro.sample("means", dist.Normal(0 * ones, 2.0).to_event(1))
        scales = pyro.sample("scales", dist.LogNormal(-0.7 * ones, 0.7).to_event(1))
        with pyro.plate("data", len(x)):
            mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(means, scales))
            return pyro.sample("x", mixture, obs=x)

    @classmethod
    def example_data(cls) -> tuple[Tensor, ...]:
        """The petal lengths of iris (Anderson 1936), which come in two kinds, standardized, shape (150,)."""
        from sklearn.datasets import load_iris

        return (standardized(torch.from_numpy(load_iris().data[:, 2])),)
