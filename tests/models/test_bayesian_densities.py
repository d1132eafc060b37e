"""Models with latents that all the data share, against scipy's densities, quadrature and scikit-learn."""

import math

import numpy as np
import pyro
import pytest
import torch
from bayesian_cases import drawn, joint, traced
from scipy import integrate, stats
from sklearn.linear_model import Ridge

from ppl_vae.models import EightSchools, HierarchicalPoisson, LinearRegression, LogisticRegression

# ---- linear regression


def regression():
    """Few data and odd scales, so that prior, noise and intercept all count."""
    torch.manual_seed(3)
    inputs = torch.randn(7, 3).double() * 2 + 1
    return LinearRegression(3, prior_scale=1.7, noise=0.4), torch.randn(7).double(), inputs


def marginal(model, x, inputs):
    """The evidence as the density of x itself, a Gaussian over the data."""
    design = np.c_[inputs.double().numpy(), np.ones(len(x))]
    covariance = model.noise**2 * np.eye(len(x)) + model.prior_scale**2 * design @ design.T
    return stats.multivariate_normal(np.zeros(len(x)), covariance).logpdf(x.double().numpy())


@pytest.mark.parametrize("make", [regression, lambda: (LinearRegression(10), *LinearRegression.example_data())])
def test_the_evidence_of_a_regression_is_the_marginal_density(make):
    model, x, inputs = make()
    found = model.log_evidence(x, inputs)
    assert found.shape == ()
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(marginal(model, x, inputs), rel=1e-9)


def test_the_posterior_of_a_regression_is_ridge_and_bayes_rule():
    model, x, inputs = regression()
    posterior = model.posterior(x, inputs)
    assert (posterior.batch_shape, posterior.event_shape) == ((), (4,))
    design = np.c_[inputs.numpy(), np.ones(7)]
    ridge = Ridge(alpha=(model.noise / model.prior_scale) ** 2, fit_intercept=False).fit(design, x.numpy())
    np.testing.assert_allclose(posterior.mean, ridge.coef_, rtol=1e-8)
    precision = design.T @ design / model.noise**2 + np.eye(4) / model.prior_scale**2
    np.testing.assert_allclose(posterior.covariance_matrix, np.linalg.inv(precision), rtol=1e-8)
    for _ in range(3):  # log p(x, w) - log p(w | x) is log p(x) wherever w is
        weights = torch.randn(4).double()
        rule = joint(model, (x, inputs), weights=weights) - posterior.log_prob(weights).item()
        assert rule == pytest.approx(marginal(model, x, inputs), rel=1e-9)


def test_a_regression_is_stable_where_columns_are_nearly_equal():
    """Float32 would have no digits left of the difference between the two."""
    torch.manual_seed(0)
    first = torch.randn(500, 1)
    inputs = torch.cat([first, first + 1e-4 * torch.randn(500, 1)], 1)
    model, x = LinearRegression(2, prior_scale=10.0, noise=1e-2), first[:, 0] + 1e-2 * torch.randn(500)
    assert model.log_evidence(x, inputs).item() == pytest.approx(marginal(model, x, inputs), abs=1e-4)
    assert model.posterior(x, inputs).mean.dtype == torch.float32
    assert model.posterior(x, inputs)().isfinite().all()


def test_the_noise_is_that_of_the_example_data():
    x, inputs = (part.double().numpy() for part in LinearRegression.example_data())
    residual = x - Ridge(alpha=1e-9).fit(inputs, x).predict(inputs)
    assert residual.std() == pytest.approx(LinearRegression(10).noise, abs=0.02)
    np.testing.assert_allclose([inputs.mean(0), inputs.std(0, ddof=1)], [[0] * 10, [1] * 10], atol=1e-6)


# ---- logistic regression


def answers(x, logits):
    """The log-probability of 0s and 1s in nats, by the logistic distribution's tail on the side of each."""
    return stats.logistic.logcdf((2 * x - 1) * logits).sum()


def logistic(x, inputs, weights, intercept):
    return answers(x, inputs @ weights + intercept)


def test_a_logistic_regression_is_its_densities():
    _, (x, inputs), values, found = drawn("logistic-regression")
    prior = stats.norm.logpdf(values["weights"]).sum() + stats.norm.logpdf(values["intercept"], scale=5)
    assert found == pytest.approx(prior + logistic(x.numpy(), inputs.numpy(), **values), rel=1e-9)


def test_the_horseshoe_is_its_densities():
    model, (x, inputs), values, found = drawn("logistic-regression, horseshoe")
    prior = stats.halfcauchy.logpdf(values["global_scale"]) + stats.halfcauchy.logpdf(values["local_scales"]).sum()
    prior += stats.norm.logpdf(values["raw_weights"]).sum() + stats.norm.logpdf(values["intercept"], scale=5)
    local = values["local_scales"] ** 2
    slab = model.slab_scale**2 / (model.slab_scale**2 + values["global_scale"] ** 2 * local)
    weights = values["raw_weights"] * values["global_scale"] * np.sqrt(slab * local)
    assert found == pytest.approx(prior + logistic(x.numpy(), inputs.numpy(), weights, values["intercept"]), rel=1e-9)


def horseshoe_cdf(tau, slab):
    """P(w <= .) of one weight given tau, lambda integrated out by quadrature over its angle."""
    angles, steps = np.polynomial.legendre.leggauss(400)
    scale = tau * np.tan(np.pi / 4 * (angles + 1))  # HalfCauchy is the tangent of a uniform angle
    scale = scale / np.hypot(1, scale / slab)
    return lambda weight: stats.norm.cdf(np.asarray(weight)[..., None] / scale) @ steps / 2


@pytest.mark.parametrize("slab", [math.inf, 0.5])
def test_the_horseshoes_weights_have_its_prior_density(slab):
    model = LogisticRegression(10_000, prior="horseshoe", slab_scale=slab)
    tau = torch.tensor(0.3).double()
    trace = traced(model, (torch.ones(1).double(), torch.zeros(1, 10_000).double()), global_scale=tau)
    weights = trace.nodes["weights"]["value"].numpy()
    cdf = horseshoe_cdf(0.3, slab)
    assert stats.kstest(weights, cdf).pvalue > 1e-3
    assert stats.kstest(weights, horseshoe_cdf(0.45, slab)).pvalue < 1e-6
    if slab == math.inf:  # the bounds of Carvalho et al.'s theorem 1, at tau 1
        at, step = np.array([0.2, 1.0, 3.0]), 1e-3
        density = (horseshoe_cdf(1, slab)(at + step) - horseshoe_cdf(1, slab)(at - step)) / (2 * step)
        constant = 1 / math.sqrt(2 * math.pi**3)
        assert (constant / 2 * np.log(1 + 4 / at**2) < density).all()
        assert (density < constant * np.log(1 + 2 / at**2)).all()


# ---- eight schools


def test_the_two_forms_of_eight_schools_are_one_model():
    """Their densities differ by the change of variables, d theta = tau d theta_raw in each school."""
    _, data, values, found = drawn("eight-schools")
    mu, tau = values["mu"], values["tau"]
    centered = {"mu": mu, "tau": tau, "theta": mu + tau * values["theta_raw"]}
    tensors = {key: torch.as_tensor(value) for key, value in centered.items()}
    assert found == pytest.approx(joint(EightSchools(centered=True), data, **tensors) + 8 * math.log(tau), rel=1e-10)
    x, sigma = (part.numpy() for part in data)
    prior = stats.norm.logpdf(mu, scale=5) + stats.halfcauchy.logpdf(tau, scale=5)
    schools = stats.norm.logpdf(centered["theta"], mu, tau) + stats.norm.logpdf(x, centered["theta"], sigma)
    assert joint(EightSchools(centered=True), data, **tensors) == pytest.approx(prior + schools.sum(), rel=1e-10)


def evidence_of_schools():
    """Log p(x): theta and mu integrated out as Gaussians, tau by quadrature."""
    x, sigma = (part.double().numpy() for part in EightSchools.example_data())

    def given(tau):
        covariance = np.diag(sigma**2 + tau**2) + 25 * np.ones((8, 8))
        return stats.multivariate_normal(np.zeros(8), covariance).pdf(x) * stats.halfcauchy.pdf(tau, scale=5)

    return math.log(integrate.quad(given, 0, np.inf, epsabs=0, epsrel=1e-10)[0])


@pytest.mark.parametrize("centered", [False, True])
def test_the_evidence_of_eight_schools_is_that_of_quadrature(centered):
    """Ours summed over a grid of mu and tau, and divided by p(theta | mu, tau, x), so that theta is integrated out."""
    data = tuple(part.double() for part in EightSchools.example_data())
    x, sigma = data
    expected = evidence_of_schools()
    assert expected == pytest.approx(-31.3113, abs=1e-4)
    nodes, steps = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(200))
    angle = math.pi / 4 * (nodes + 1)
    tau, weight = 5 * angle.tan(), steps * math.pi / 4 * 5 / angle.cos() ** 2
    mu = torch.linspace(-40, 40, 801).double()
    grid_mu, grid_tau = (part.reshape(-1, 1) for part in torch.meshgrid(mu, tau, indexing="ij"))
    precision = 1 / grid_tau**2 + 1 / sigma**2
    loc = (grid_mu / grid_tau**2 + x / sigma**2) / precision
    theta = torch.distributions.Normal(loc, precision.rsqrt())  # p(theta | mu, tau, x)
    value = loc + 0.3  # anywhere: log p(x, theta, ...) - log p(theta | ...) is the same
    log_q = theta.log_prob(value).sum(-1)
    held = {"theta": value} if centered else {"theta_raw": (value - grid_mu) / grid_tau}
    log_q = log_q if centered else log_q + 8 * grid_tau.log()[:, 0]
    with pyro.plate("particles", len(grid_mu), dim=-2):
        trace = traced(EightSchools(centered), data, mu=grid_mu, tau=grid_tau, **held)
    log_p = sum(trace.nodes[key]["log_prob"].sum(-1) for key in ("mu", "tau", "x", *held))
    log_weight = weight.log().repeat(801) + math.log(0.1)
    assert torch.logsumexp(log_p - log_q + log_weight, 0).item() == pytest.approx(expected, abs=1e-3)


# ---- counts, mixture, answers


def test_the_counts_are_their_densities():
    _, (x, group, exposure), values, found = drawn("hierarchical-poisson")
    prior = stats.norm.logpdf(values["mu"], scale=2)
    prior += stats.halfnorm.logpdf(values["tau"]) + stats.halfnorm.logpdf(values["sigma"])
    prior += stats.norm.logpdf(values["group_raw"]).sum() + stats.norm.logpdf(values["data_raw"]).sum()
    log_rate = values["mu"] + values["tau"] * values["group_raw"][group.numpy()] + values["sigma"] * values["data_raw"]
    likelihood = stats.poisson.logpmf(x.numpy(), exposure.numpy() * np.exp(log_rate)).sum()
    assert found == pytest.approx(prior + likelihood, rel=1e-9)


def test_the_rows_of_a_group_may_lie_apart():
    model, data, values, found = drawn("hierarchical-poisson")
    order = torch.randperm(200)
    tensors = {key: torch.as_tensor(value) for key, value in values.items()}
    tensors["data_raw"] = tensors["data_raw"][order]
    assert joint(model, tuple(part[order] for part in data), **tensors) == pytest.approx(found, rel=1e-10)


def test_simulated_counts_have_the_moments_of_their_model():
    """Mean and variance of the log-normal mixture of Poissons; a thousand groups of a hundred run."""
    x, group, exposure = HierarchicalPoisson.simulate(1000, 100, mu=1.0, tau=0.4, sigma=0.3, seed=1)
    rate = math.exp(1 + (0.4**2 + 0.3**2) / 2)
    within = (x / exposure).double().reshape(1000, 100)
    means = within.mean(1)
    assert within.mean().item() == pytest.approx(rate, abs=4 * means.std().item() / math.sqrt(1000))
    assert (torch.bincount(group) == 100).all()
    assert ((exposure > 0.5) & (exposure < 2)).all()
    products = (within[:, ::2].mean(1) * within[:, 1::2].mean(1)).mean().item()  # E[rate^2] of a group, without noise
    assert products == pytest.approx(math.exp(2 + 0.3**2 + 2 * 0.4**2), rel=0.1)
    square = ((x * (x - 1)) / exposure**2).double().mean().item()
    assert square == pytest.approx(math.exp(2 + 2 * (0.4**2 + 0.3**2)), rel=0.1)
    other = HierarchicalPoisson.simulate(1000, 100, mu=1.0, tau=0.4, sigma=0.3, seed=2)
    assert not torch.equal(x, other[0])
    model = HierarchicalPoisson(1000)
    with pyro.plate("particles", 3, dim=-2):
        trace = traced(model, (x, group, exposure))
    assert trace.nodes["x"]["log_prob"].shape == (3, 100_000)
    assert trace.nodes["group_effects"]["value"].shape == (3, 1000)


def test_the_mixture_is_its_densities():
    _, (x,), values, found = drawn("bayesian-mixture")
    prior = stats.dirichlet([2, 2]).logpdf(values["weights"]) + stats.norm.logpdf(values["means"], scale=2).sum()
    prior += stats.lognorm.logpdf(values["scales"], 0.7, scale=math.exp(-0.7)).sum()
    each_one = stats.norm.logpdf(x.numpy()[:, None], values["means"], values["scales"]) + np.log(values["weights"])
    assert found == pytest.approx(prior + np.logaddexp.reduce(each_one, 1).sum(), rel=1e-10)


def test_the_mixtures_components_may_swap_names():
    model, data, values, found = drawn("bayesian-mixture")
    swapped = {key: torch.as_tensor(value).flip(-1) for key, value in values.items()}
    assert joint(model, data, **swapped) == pytest.approx(found, rel=1e-10)


@pytest.mark.parametrize("name", ["item-response", "item-response, Rasch"])
def test_the_answers_are_their_densities(name):
    _, (x,), values, found = drawn(name)
    slopes = np.exp(values.get("log_discriminations", np.zeros(12)))
    prior = stats.norm.logpdf(values["difficulties"], scale=2).sum() + stats.norm.logpdf(values["abilities"]).sum()
    if "log_discriminations" in values:
        prior += stats.norm.logpdf(values["log_discriminations"], scale=0.5).sum()
    logits = slopes * (values["abilities"][:, None] - values["difficulties"])
    assert found == pytest.approx(prior + answers(x.numpy(), logits), rel=1e-10)
