"""Bayesian linear regression with known noise: the evidence and the posterior of shared latents are known exactly."""

import math
from typing import Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.errors import require_count
from ppl_vae.models.bayesian import BayesianModel, linear, require_positive, require_shape, standardized
from ppl_vae.programs import Distribution


class LinearRegression(BayesianModel):
    """Linear regression: weights ~ N(0, prior_scale^2 I), x ~ N(inputs w + b, noise^2) (Bishop 2006, section 3.3).

    The site "weights", event shape (features + 1,), holds w and behind it the intercept b. The prior is conjugate, so
    that :meth:`log_evidence` and :meth:`posterior` are exact; both are computed in float64.

    It is called as ``model(x, inputs)``: the responses x of shape (data,), the inputs of shape (data, features).

    Args:
        features: the number of columns of the inputs.
        prior_scale: the standard deviation of each weight and of the intercept.
        noise: the standard deviation of x around the line, known. The default is that of the residuals of the example
            data, in which x has standard deviation 1 and the inputs explain half of its variance.

    Raises:
        InputError: for no features, or a scale that is not above 0.

    Examples:
        >>> from ppl_vae.models import LinearRegression
        >>> x, inputs = LinearRegression.example_data()
        >>> model = LinearRegression(features=inputs.shape[1])
        >>> round(float(model.log_evidence(x, inputs)), 2)
        -499.48
        >>> model.posterior(x, inputs).event_shape
        torch.Size([11])
    """

    given_names = ("inputs",)
    latent_site = "weights"

    def __init__(self, features: int, prior_scale: float = 1.0, noise: float = 0.7) -> None:
        super().__init__()
        require_count("features", features, 1)
        require_positive("prior_scale", prior_scale)
        require_positive("noise", noise)
        self.features, self.prior_scale, self.noise = features, prior_scale, noise

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples the weights and observes x, shape (data,), given inputs."""
        inputs = self._checked(x, given)
        prior = dist.Normal(x.new_zeros(self.features + 1), self.prior_scale).to_event(1)
        weights = pyro.sample("weights", prior)
        with pyro.plate("data", len(x)):
            loc = linear(inputs, weights[..., :-1]) + weights[..., -1]
            return pyro.sample("x", dist.Normal(loc, self.noise), obs=x)

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The exact posterior p(weights | x, inputs), a full Gaussian of event shape (features + 1,)."""
        loc, root, _ = self._solved(x, self._checked(x, given))
        exact = dist.MultivariateNormal(loc, precision_matrix=root @ root.mT)
        return dist.MultivariateNormal(exact.loc.to(x), scale_tril=exact.scale_tril.to(x))

    def log_evidence(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns log p(x | inputs) of all the data in nats, a float64 scalar: x is N(0, noise^2 I + s^2 X X')."""
        loc, root, design = self._solved(x, self._checked(x, given))
        # at the posterior mean: a sum of squares loses no digits, as the difference x'x - loc'A loc does
        misfit = ((x.double() - design @ loc) / self.noise).square().sum() + (loc / self.prior_scale).square().sum()
        log_det = 2 * (
            root.diagonal().log().sum() + len(x) * math.log(self.noise) + len(loc) * math.log(self.prior_scale)
        )
        return -(misfit + log_det + len(x) * math.log(2 * math.pi)) / 2

    def _solved(self, x: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior's mean, the Cholesky root of its precision, and the inputs with a column of ones; float64."""
        design = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1).double()
        precision = design.mT @ design / self.noise**2
        precision = precision + torch.eye(len(precision)).to(precision) / self.prior_scale**2
        root = torch.linalg.cholesky(precision)
        loc = torch.cholesky_solve((design.mT @ x.double() / self.noise**2)[:, None], root)[:, 0]
        return loc, root, design

    def _checked(self, x: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        require_shape(self, "x", x, x.shape[:1], "pass one number for each data point")
        (inputs,) = self.inputs(x, given)
        mend = f"make the model with features={inputs.shape[-1]}" if inputs.dim() == 2 else "pass a matrix"
        require_shape(self, "inputs", inputs, (len(x), self.features), mend)
        return inputs

    @classmethod
    def for_data(cls, x: Tensor, *given: Tensor) -> Self:
        """Makes the model with as many features as the inputs have columns."""
        return cls(given[0].shape[1])

    @classmethod
    def example_data(cls) -> tuple[Tensor, ...]:
        """Diabetes (Efron et al. 2004): the disease's progress, (442,), and 10 measurements, (442, 10); standardized.

        The rows are patients, the response is the disease one year after the measurements.
        """
        from sklearn.datasets import load_diabetes

        table = load_diabetes()
        return standardized(torch.from_numpy(table.target)), standardized(torch.from_numpy(table.data))
