"""Eight schools: a hierarchy with a funnel, in two forms whose posteriors differ in how well they can be fitted."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.models.bayesian import BayesianModel, require_shape


class EightSchools(BayesianModel):
    """The effect of coaching in eight schools: theta_j ~ N(mu, tau^2), x_j ~ N(theta_j, sigma_j^2) (Rubin 1981).

    The shared latents are mu ~ N(0, 5^2) and tau ~ HalfCauchy(5), sites "mu" and "tau"; the priors are those of Yao et
    al. 2018. The plate "data" holds the schools' effects, shape (data,): the site "theta", or where the model is not
    centered "theta_raw" ~ N(0, 1), with "theta" = mu + tau * theta_raw deterministic. The centered form has a funnel
    where tau is small, which few guides fit; the other has none.

    It is called as ``model(x, sigma)``: the estimated effects x and their standard errors, points of the test, both of
    shape (data,).

    Args:
        centered: whether the latents are the effects themselves.

    Examples:
        >>> from ppl_vae.models import EightSchools
        >>> x, sigma = EightSchools.example_data()
        >>> EightSchools(centered=True)(x, sigma)
        tensor([28.,  8., -3.,  7., -1.,  1., 18., 12.])
    """

    given_names = ("sigma",)

    def __init__(self, centered: bool = False) -> None:
        super().__init__()
        self.centered = centered

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples mu, tau and the schools' effects and observes x given sigma."""
        require_shape(self, "x", x, x.shape[:1], "pass one estimate for each school")
        (sigma,) = self.inputs(x, given)
        require_shape(self, "sigma", sigma, (len(x),), "pass one standard error for each school")
        mu = pyro.sample("mu", dist.Normal(x.new_zeros(()), 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(x.new_full((), 5.0)))
        with pyro.plate("data", len(x)):
            if self.centered:
                theta = pyro.sample("theta", dist.Normal(mu, tau))
            else:
                raw = pyro.sample("theta_raw", dist.Normal(x.new_zeros(()), 1.0))
                theta = pyro.deterministic("theta", mu + tau * raw, event_dim=0)
            return pyro.sample("x", dist.Normal(theta, sigma), obs=x)

    @classmethod
    def example_data(cls) -> tuple[Tensor, ...]:
        """Rubin's estimates and their standard errors, both of shape (8,), in points of the SAT-V."""
        x = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
        return x, torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
