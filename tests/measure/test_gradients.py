"""Gradient estimators: the unbiased ones hit the exact gradient, biased ones say so; variances against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from zoo import FAMILIES, LATENT

from ppl_vae.estimators import ESTIMATORS, IWAE, Enumeration, RunningMean, StickingTheLanding, estimator
from ppl_vae.guides import Amortized, Bernoulli, Categorical, Diagonal
from ppl_vae.measure.gradients import gradient_statistics
from ppl_vae.measure.known_variances import known_variances, quadratic
from ppl_vae.measure.reference import Reference, reference_gradient
from ppl_vae.models import VAE, BernoulliVAE, CategoricalVAE, LinearGaussian
from ppl_vae.networks import JointMLP
from ppl_vae.programs import LatentVariableModel, NotReparameterized

PIXELS, ROWS = 6, 2


def _mlp(*widths):
    return JointMLP(widths[0], list(widths[1:]), activation_layer=nn.Tanh)  # smooth, for the quadrature


def _pair(latents):
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((ROWS, PIXELS), 0.5))
    if latents == "bits":
        return (
            BernoulliVAE(PIXELS, 3, decoder=_mlp(3, 4, PIXELS)),
            Amortized(Bernoulli(3), encoder=_mlp(PIXELS, 4, 3)),
            x,
        )
    if latents == "one-hot":
        model = CategoricalVAE(PIXELS, 2, categories=3, hidden=(4,))
        return model, Amortized(Categorical(2, 3), encoder=_mlp(PIXELS, 4, 6)), x
    return VAE(PIXELS, 1, decoder=_mlp(1, 4, PIXELS)), Amortized(Diagonal(1), encoder=_mlp(PIXELS, 4, 2)), x


def _two_sample_reference(model, guide, x):
    """The gradient of minus E[log (w_1 + w_2) / 2], by all pairs of states or of nodes."""
    posterior = guide.posterior(x)
    if posterior.has_rsample:
        nodes, mass = (torch.tensor(part).float() for part in np.polynomial.hermite_e.hermegauss(40))
        base = posterior.base_dist
        z = base.loc + base.scale * nodes[:, None, None]
        log_mass = (mass / mass.sum()).log()[:, None].expand(-1, ROWS)
    else:
        from ppl_vae.evidence.exact import states_of

        z = states_of(posterior).unsqueeze(1).expand(-1, ROWS, *posterior.event_shape)
        log_mass = posterior.log_prob(z)
    weights = model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - posterior.log_prob(z)
    pairs = torch.logaddexp(weights[:, None], weights[None]) - math.log(2)
    bound = ((log_mass[:, None] + log_mass[None]).exp() * pairs).sum()
    leaves = [*model.parameters(), *guide.parameters()]
    mean = torch.cat([part.flatten() for part in torch.autograd.grad(-bound, leaves)]).double()
    return Reference(mean, torch.zeros_like(mean), "pairs")


def _fits(name, latents):
    continuous = latents == "continuous"
    return ESTIMATORS[name].fits(has_rsample=continuous, discrete=not continuous, bits=latents == "bits")


CASES = [
    (name, latents) for latents in ("bits", "one-hot", "continuous") for name in ESTIMATORS if _fits(name, latents)
]


@pytest.mark.parametrize(("name", "latents"), CASES)
def test_the_mean_is_the_exact_gradient_unless_the_estimator_says_otherwise(name, latents):
    model, guide, x = _pair(latents)
    spec = ESTIMATORS[name]
    exact = _two_sample_reference(model, guide, x) if spec.multi_sample else reference_gradient(model, guide, x)
    assert exact.source in ("enumeration", "quadrature", "pairs")
    if latents == "continuous" and spec.latents == "not reparameterized":
        guide.reparameterized = False
    torch.manual_seed(1)
    draws = 200 if name == "enumeration" else 4000
    found = gradient_statistics(model, guide, x, elbo=estimator(name), draws=draws, reference=exact, learning_steps=20)
    total = found.sel(group="total")
    if spec.biased:
        assert total.bias_z > 6
    else:
        assert total.bias_z < 4
    if name != "enumeration":
        assert total.variance_low < total.variance < total.variance_high
        assert total.snr == pytest.approx(float(total.mean_norm / total.variance**0.5))
    assert found.attrs["vectorized"]


def test_no_estimator_is_left_out_of_the_law():
    assert set(ESTIMATORS) == {name for name, _ in CASES}


@pytest.mark.parametrize("distance", [0.0, 1.0, 4.0])
def test_variances_of_the_quadratic_are_the_closed_forms(distance):
    known = known_variances(distance)
    torch.manual_seed(0)
    ways = [("score-function", "score function", True), ("reinforce", "score function", True)]
    ways += [
        ("pathwise", "pathwise", False),
        ("pathwise-kl", "pathwise", True),
        ("sticking-the-landing", "pathwise", True),
    ]
    for name, form, held in ways:
        model, guide, x = quadratic(distance, held=held)
        guide.reparameterized = name != "score-function"
        total = gradient_statistics(model, guide, x, elbo=estimator(name), draws=10000).sel(group="total")
        error = float(total.variance_high - total.variance_low) / 3.92
        assert abs(float(total.variance) - known[form]) < 4 * error
        assert float(total["mean_norm"]) == pytest.approx(2 * distance, abs=4 * (known[form] / 10000) ** 0.5)


def test_draws_at_once_are_those_one_by_one():
    model, guide, x = _pair("bits")
    exact = reference_gradient(model, guide, x)
    leaves = [*model.parameters(), *guide.parameters()]
    loss = Enumeration().differentiable_loss(model, guide, x)
    one = torch.cat([part.flatten() for part in torch.autograd.grad(loss, leaves)]).double()
    found = gradient_statistics(model, guide, x, elbo=Enumeration(), draws=100)
    assert found.attrs["vectorized"]
    for mean in (exact.mean, torch.tensor(found["mean"].values)):
        torch.testing.assert_close(mean, one, atol=1e-5, rtol=1e-5)


def test_parameters_outside_linear_layers_are_drawn_one_by_one():
    torch.manual_seed(0)
    model, guide = LinearGaussian(5, 2), Amortized(Diagonal(2), 5, hidden=(4,))
    x = model.generate(3)[1].sample()
    found = gradient_statistics(model, guide, x, elbo=StickingTheLanding(), draws=50)
    assert not found.attrs["vectorized"]
    assert {"model", "guide", "guide.encoder.0", "total"} <= set(found.group.values)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("delta", "bernoulli", "categorical")])
def test_the_score_of_every_family_has_mean_zero(name):
    """It would not, were a draw's noise remembered: log q must go the way through z."""
    torch.manual_seed(0)
    family = FAMILIES[name]()
    params = (0.3 * torch.randn(1, family.num_params)).repeat(20000, 1).requires_grad_()
    fn = NotReparameterized(family(params))
    z = fn()
    assert not z.requires_grad
    assert z.shape == (20000, LATENT)
    (score,) = torch.autograd.grad(fn.log_prob(z).sum(), params)
    error = score.std(0) / 20000**0.5
    moving = error > 1e-9  # a flow's numbers may have no part in it yet
    assert moving.any()
    assert (score.mean(0)[moving].abs() / error[moving]).max() < 4.5


class _Unit(LatentVariableModel):
    """z ~ N(0, 1), x ~ N(z, 1): the posterior is N(x / 2, 1 / 2)."""

    def __init__(self):
        super().__init__(1)

    def likelihood(self, z):
        return torch.distributions.Independent(torch.distributions.Normal(z, 1.0), 1)


def test_no_variance_is_left_at_the_exact_posterior():
    guide = Amortized(Diagonal(1), encoder=nn.Linear(1, 2))
    unit, scale = math.log(math.e - 1), math.log(math.exp(0.5**0.5 - 1e-6) - 1)
    with torch.no_grad():
        guide.encoder.weight.copy_(torch.tensor([[0.5], [0.0]]))
        guide.encoder.bias.copy_(torch.tensor([0.0, scale - unit]))
    x = torch.randn(4, 1)
    left = {
        name: float(gradient_statistics(_Unit(), guide, x, elbo=estimator(name), draws=500).variance.sel(group="total"))
        for name in ("sticking-the-landing", "dreg", "pathwise", "iwae")
    }
    assert max(left["sticking-the-landing"], left["dreg"]) < 1e-8
    assert min(left["pathwise"], left["iwae"]) > 0.1


def test_the_laboratory_leaves_the_pair_and_the_estimator_alone():
    model, guide, x = _pair("bits")
    before = [leaf.clone() for leaf in [*model.parameters(), *guide.parameters()]]
    elbo = RunningMean()
    gradient_statistics(model, guide, x, elbo=elbo, draws=50, learning_steps=5)
    assert not elbo.state[0].any()
    after = [*model.parameters(), *guide.parameters()]
    assert all(torch.equal(old, new) and new.grad is None for old, new in zip(before, after, strict=True))


def test_many_draws_where_nothing_else_is_exact():
    torch.manual_seed(0)
    model, guide = VAE(PIXELS, 3, hidden=(4,)), Amortized(Diagonal(3), PIXELS, hidden=(4,), reparameterized=False)
    x = torch.bernoulli(torch.full((ROWS, PIXELS), 0.5))
    found = reference_gradient(model, guide, x, draws=2000)
    assert "pathwise" in found.source
    assert found.error.max() > 0
    assert not guide.reparameterized
    bound = reference_gradient(model, guide, x, elbo=StickingTheLanding(), draws=2000)
    assert "StickingTheLanding" in bound.source
    noise = (found.error.square() + bound.error.square()).sqrt() + 1e-6
    assert ((found.mean - bound.mean).abs() / noise).max() < 4.5


def test_bad_input_is_told():
    model, guide, x = _pair("continuous")
    with pytest.raises(ValueError, match="draws is 3; a variance needs at least 10"):
        gradient_statistics(model, guide, x, elbo=IWAE(2), draws=3)
    with pytest.raises(ValueError, match="draws is 1; an error needs at least 2"):
        reference_gradient(model, guide, x, draws=1)
    with pytest.raises(ValueError, match="take at most"):
        gradient_statistics(model, guide, x, elbo=IWAE(2), draws=10**9)
