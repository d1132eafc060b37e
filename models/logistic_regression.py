"""Bayesian logistic regression, with a normal prior or the horseshoe, which most weights are close to 0 under."""

from typing import Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.models.bayesian import BayesianModel, linear, require_positive, require_shape, standardized

PRIORS = ("normal", "horseshoe")


class LogisticRegression(BayesianModel):
    """Logistic regression: x ~ Bernoulli(sigmoid(inputs w + b)), with one of two priors over the weights w.

    - "normal": w_j ~ N(0, prior_scale^2), the site "weights" of event shape (features,).
    - "horseshoe" (Carvalho, Polson & Scott 2010): w_j = raw_j * tau * lambda_j with "raw_weights" raw_j ~ N(0, 1),
      "local_scales" lambda_j ~ HalfCauchy(1) and "global_scale" tau ~ HalfCauchy(prior_scale); "weights" is then
      deterministic. The regularized form (Piironen & Vehtari 2017) takes
      lambda_j^2 slab_scale^2 / (slab_scale^2 + tau^2 lambda_j^2) for lambda_j^2, so that no weight's scale is above
      ``slab_scale``: without it, classes that a plane separates leave large weights unbounded.

    The intercept b ~ N(0, 5^2) is the site "intercept". It is called as ``model(x, inputs)``: the classes x, 0 or 1,
    of shape (data,), the inputs of shape (data, features).

    Args:
        features: the number of columns of the inputs.
        prior: "normal" or "horseshoe".
        prior_scale: the standard deviation of the weights, or the scale of the horseshoe's tau.
        slab_scale: the largest standard deviation of a weight under the horseshoe; ``math.inf`` is that of 2010.

    Raises:
        InputError: for no features, an unknown prior, or a scale that is not above 0.

    Examples:
        >>> from ppl_vae.models import LogisticRegression
        >>> x, inputs = LogisticRegression.example_data()
        >>> model = LogisticRegression(features=inputs.shape[1], prior="horseshoe")
        >>> model(x, inputs).shape
        torch.Size([569])
    """

    given_names = ("inputs",)

    def __init__(self, features: int, prior: str = "normal", prior_scale: float = 1.0, slab_scale: float = 2.0) -> None:
        super().__init__()
        require_count("features", features, 1)
        require_positive("prior_scale", prior_scale)
        require_positive("slab_scale", slab_scale)
        if prior not in PRIORS:
            raise InputError(f"prior is {prior!r}; choose from {', '.join(PRIORS)}")
        self.features, self.prior, self.prior_scale, self.slab_scale = features, prior, prior_scale, slab_scale

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples weights and intercept and observes x, shape (data,), given inputs."""
        require_shape(self, "x", x, x.shape[:1], "pass one class, 0 or 1, for each data point")
        (inputs,) = self.inputs(x, given)
        mend = f"make the model with features={inputs.shape[-1]}" if inputs.dim() == 2 else "pass a matrix"
        require_shape(self, "inputs", inputs, (len(x), self.features), mend)
        zeros = x.new_zeros(self.features)
        if self.prior == "normal":
            weights = pyro.sample("weights", dist.Normal(zeros, self.prior_scale).to_event(1))
        else:
            weights = self._horseshoe(zeros)
        intercept = pyro.sample("intercept", dist.Normal(x.new_zeros(()), 5.0))
        with pyro.plate("data", len(x)):
            logits = linear(inputs, weights) + intercept
            return pyro.sample("x", dist.Bernoulli(logits=logits), obs=x)

    def _horseshoe(self, zeros: Tensor) -> Tensor:
        """Samples the horseshoe's scales and raw weights; returns the weights, shape (..., features)."""
        tau = pyro.sample("global_scale", dist.HalfCauchy(zeros.new_full((), self.prior_scale)))[..., None]
        local = pyro.sample("local_scales", dist.HalfCauchy(torch.ones_like(zeros)).to_event(1))
        raw = pyro.sample("raw_weights", dist.Normal(zeros, 1.0).to_event(1))
        scales = tau * local / torch.hypot(torch.ones_like(zeros), tau * local / self.slab_scale)
        return pyro.deterministic("weights", raw * scales, event_dim=1)

    @classmethod
    def for_data(cls, x: Tensor, *given: Tensor) -> Self:
        """Makes the model with as many features as the inputs have columns."""
        return cls(given[0].shape[1])

    @classmethod
    def example_data(cls) -> tuple[Tensor, ...]:
        """Breast cancer in Wisconsin: benign (1) or malignant (0), (569,), and 30 standardized features, (569, 30)."""
        from sklearn.datasets import load_breast_cancer

        table = load_breast_cancer()
        return torch.from_numpy(table.target).float(), standardized(torch.from_numpy(table.data))
