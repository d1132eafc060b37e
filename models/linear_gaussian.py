"""Probabilistic PCA: the one model on which every bound and every gap is known exactly."""

import math
from typing import Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.models.gaussians import mean_and_spread
from ppl_vae.programs import Distribution, LatentVariableModel


class LinearGaussian(LatentVariableModel):
    """Probabilistic PCA: z ~ N(0, I), x ~ N(W z + b, s^2 I) (Tipping & Bishop 1999).

    Args:
        observed_dim: the number of observed dimensions.
        latent_dim: the number of latents.
        scale: the standard deviation s at the start.

    Examples:
        >>> import torch
        >>> from ppl_vae.evidence import exact_evidence
        >>> from ppl_vae.models import LinearGaussian
        >>> x = torch.randn(100, 3)
        >>> best = LinearGaussian.maximum_likelihood(x, latent_dim=1)
        >>> other = LinearGaussian(observed_dim=3, latent_dim=1)
        >>> bool(exact_evidence(best, x).log_evidence.mean() > exact_evidence(other, x).log_evidence.mean())
        True
    """

    def __init__(self, observed_dim: int, latent_dim: int, scale: float = 1.0) -> None:
        super().__init__(latent_dim)
        self.weight = nn.Parameter(torch.randn(observed_dim, latent_dim) / math.sqrt(latent_dim))
        self.bias = nn.Parameter(torch.zeros(observed_dim))
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @classmethod
    def maximum_likelihood(cls, x: Tensor, latent_dim: int) -> "LinearGaussian":
        """Finds the model with the highest likelihood of x, shape (data, observed_dim), in closed form (eqs. 7, 8)."""
        observed_dim = x.shape[1]
        if not 1 <= latent_dim < observed_dim:
            raise InputError(
                f"latent_dim is {latent_dim}; {observed_dim} observed dimensions allow 1 to {observed_dim - 1}"
            )
        model = cls(observed_dim, latent_dim).to(x)
        variances, directions = torch.linalg.eigh(x.T.cov(correction=0))
        noise = variances[:-latent_dim].mean()
        with torch.no_grad():
            model.weight.copy_(directions[:, -latent_dim:] * (variances[-latent_dim:] - noise).clamp(min=0).sqrt())
            model.bias.copy_(x.mean(0))
            model.log_scale.copy_(noise.log() / 2)
        return model

    def initialize(self, x: Tensor) -> Self:
        """Starts from the data's mean and their spread around it, in the noise and again in W z; returns self.

        Args:
            x: training data, shape (data, observed_dim).

        Raises:
            InputError: where all data points are equal, so that their density has no scale.
        """
        mean, spread = mean_and_spread(x)
        with torch.no_grad():
            self.bias.copy_(mean)
            self.weight.mul_(spread / self.weight.square().sum(1).mean().sqrt())
            self.log_scale.copy_(spread.log())
        return self

    def likelihood(self, z: Tensor, *given: Tensor) -> Distribution:
        """The likelihood N(W z + b, s^2 I), event shape (observed_dim,)."""
        return dist.Normal(z @ self.weight.T + self.bias, self.log_scale.exp()).to_event(1)

    def posterior_precision(self) -> Tensor:
        """Returns the posterior's precision I + W'W / s^2, shape (latent_dim, latent_dim), the same for every x."""
        weight = self.weight
        return torch.eye(self.latent_dim).to(weight) + weight.T @ weight / (2 * self.log_scale).exp()

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The exact posterior p(z | x), a full Gaussian of batch shape (batch,)."""
        precision = self.posterior_precision()
        residual = (x - self.bias) / (2 * self.log_scale).exp()
        loc = torch.linalg.solve(precision, (residual @ self.weight).T).T
        return dist.MultivariateNormal(loc, precision_matrix=precision)

    def log_evidence(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns log p(x) in nats, shape (batch,): x is N(b, W W' + s^2 I)."""
        noise = (2 * self.log_scale).exp().expand(len(self.bias))
        return dist.LowRankMultivariateNormal(self.bias, self.weight, noise).log_prob(x)
