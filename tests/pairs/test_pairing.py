"""A guide and a model that are no pair are refused in one sentence, whatever measures them."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from measures import measures
from pyro import poutine
from pyro.infer import TraceGraph_ELBO
from torch.distributions import constraints

from ppl_vae import InputError, bounds, check, fit
from ppl_vae.estimators import Reinforce
from ppl_vae.evidence import annealed, quadrature, sandwich

X = torch.linspace(-1.5, 2.5, 6)


def model_of(prior, size=None):
    def model(x):
        with pyro.plate("data", size or len(x)):
            z = pyro.sample("z", prior)
            z = z.sum(-1) if prior.event_shape else z
            pyro.sample("x", dist.Normal(z.to(x), 1.0), obs=x)

    return model


def guide_of(make):
    """A guide whose q is made from one number to be trained, between 0 and 1."""

    def guide(x):
        number = pyro.param("number", torch.tensor(0.5), constraint=constraints.unit_interval)
        with pyro.plate("data", len(x)):
            pyro.sample("z", make(number.expand(len(x))))

    return guide


def words(of):
    """Latents in a plate below the data, as many as the words that are left; the model observes, the guide does not."""

    def program(x):
        number = pyro.param("number", torch.tensor(0.5))
        left = of(torch.stack([x, x], -1))
        with pyro.plate("data", len(x), dim=-2):
            with pyro.plate("words", left.shape[-1], dim=-1):
                z = pyro.sample("z", dist.Normal(number.expand(left.shape), 1.0))
            if left.shape[-1] == 2:
                pyro.sample("x", dist.Normal(z.mean(-1, keepdim=True), 1.0), obs=x[:, None])

    return program


NORMAL = model_of(dist.Normal(0.0, 1.0))
GAUSSIAN = guide_of(lambda number: dist.Normal(number, 0.5))


def exact_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))


MEASURES = measures(TraceGraph_ELBO) | {"an estimator": lambda model, guide, x: Reinforce().loss(model, guide, x)}
NO_PAIRS = {
    "a mass on a density": (
        NORMAL,
        guide_of(dist.Bernoulli),
        r"'z' is discrete in the guide \(Bernoulli\) and continuous in the model \(Normal\): a probability can't be "
        "weighed against a density; take a continuous distribution",
    ),
    "a density on a mass": (
        model_of(dist.Poisson(2.0)),
        GAUSSIAN,
        r"'z' is continuous in the guide \(Normal\) and discrete in the model \(Poisson\)",
    ),
    "a relaxed one on a mass": (
        model_of(dist.Bernoulli(0.5)),
        guide_of(lambda number: dist.RelaxedBernoulli(torch.tensor(0.5), probs=number)),
        "'z' is continuous in the guide .* and discrete in the model",
    ),
    "swapped": (exact_guide, NORMAL, "the model observes nothing, the guide does: give the model first"),
    "the model for a guide": (NORMAL, NORMAL, "the guide observes 'x': a guide samples the latents given the data"),
    "events of other lengths": (
        model_of(dist.Normal(torch.zeros(3), 1.0).to_event(1)),
        guide_of(lambda number: dist.Normal(number[:, None], 1.0).to_event(1)),
        r"'z' has event shape \(1,\) in the guide and \(3,\) in the model: make them equal",
    ),
    "normal on positive": (
        model_of(dist.LogNormal(0.0, 1.0)),
        GAUSSIAN,
        r"the guide's draws of 'z' \(Normal\) leave the support of the model's prior, .*\(LogNormal\), where its dens",
    ),
    "too many categories": (
        model_of(dist.Categorical(torch.ones(3))),
        guide_of(lambda number: dist.Categorical(torch.ones(len(number), 5) * number[:, None])),
        r"the guide's draws of 'z' \(Categorical\) leave the support",
    ),
    "no point of a simplex": (
        model_of(dist.Dirichlet(torch.ones(3))),
        guide_of(lambda number: dist.Normal(number[:, None].expand(-1, 3), 1.0).to_event(1)),
        r"the guide's draws of 'z' \(Normal\) leave the support of the model's prior, Simplex\(\)",
    ),
    "any number for an angle": (
        model_of(dist.VonMises(0.0, 1.0)),
        GAUSSIAN,
        r"the guide's draws of 'z' \(Normal\) leave the support of the model's prior, Interval.*\(VonMises\)",
    ),
    "masked in the guide": (
        NORMAL,
        poutine.mask(GAUSSIAN, mask=False),
        "the latent 'z' is masked otherwise in the guide than in the model",
    ),
    "another plate": (
        words(lambda x: x),
        words(lambda x: x[..., :1]),
        r"'z' has batch shape \(\d, 1\) in the guide and \(\d, 2\) in the model: sample it inside the same plates|"
        r"site 'z': its batch shape does not fit the plate 'words' \(1 against 2\)",
    ),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", NO_PAIRS)
def test_no_pair_is_refused_in_one_sentence_by_whatever_measures_it(kind, measure):
    model, guide, message = NO_PAIRS[kind]
    if measure == "annealed" and kind in ("a density on a mass", "a relaxed one on a mass", "too many categories"):
        message += "|is discrete: annealing and quadrature move through real numbers"
    pyro.clear_param_store()
    with pytest.raises(InputError, match=message) as caught:
        MEASURES[measure](model, guide, X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in NO_PAIRS if kind != "another plate"])
def test_check_tells_of_no_pair_in_the_same_words(kind):
    model, guide, message = NO_PAIRS[kind]
    (line,) = check(model, guide, X)
    with pytest.raises(InputError, match=message) as caught:
        bounds(model, guide, X, particles=10)
    assert line == str(caught.value)


def test_a_step_with_the_nesting_given_is_checked_too():
    """Each run of an estimator looks at the kinds and shapes, not the first alone."""
    with pytest.raises(InputError, match="a probability can't be weighed against a density"):
        Reinforce(max_plate_nesting=1).loss(NORMAL, guide_of(dist.Bernoulli), X)


PAIRS = {
    "narrower": (
        model_of(dist.Normal(0.0, 1.0)),
        guide_of(lambda number: dist.Uniform(-number - 1.0, number + 1.0)),
        dist.Normal(0.0, 2**0.5).log_prob(X),
    ),
    "another distribution of counts": (
        model_of(dist.Poisson(2.0)),
        guide_of(lambda number: dist.Binomial(5, number)),
        None,
    ),
    "an angle": (
        model_of(dist.VonMises(0.0, 1.0)),
        guide_of(lambda number: dist.Uniform(-3.0 * number, 3.0)),
        None,
    ),
    "another positive one": (model_of(dist.LogNormal(0.0, 1.0)), guide_of(partial(dist.Gamma, 2.0)), None),
    "in an interval": (
        model_of(dist.Beta(2.0, 2.0)),
        guide_of(lambda number: dist.Uniform(0.1, 0.2 + number / 2)),
        None,
    ),
    "onto a simplex": (
        model_of(dist.Dirichlet(torch.ones(3))),
        guide_of(
            lambda number: dist.TransformedDistribution(
                dist.Normal(number[:, None].expand(-1, 2), 1.0).to_event(1), dist.transforms.StickBreakingTransform()
            )
        ),
        None,
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_other_distributions_inside_the_support_are_pairs(kind):
    """A guide may have a smaller support than the prior: E[log w] <= log E[w] <= log p(x) still."""
    model, guide, truth = PAIRS[kind]
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    elbo = TraceGraph_ELBO() if kind.startswith("another distribution") else None
    assert fit(model, guide, X, elbo=elbo, epochs=1, progress=False).is_bound
    found = bounds(model, guide, X, particles=500, curve=(1, 100))
    assert found.attrs["is_bound"] == 1
    if truth is not None:
        assert bool((found.iwelbo.sel(K=100) < truth.numpy() + 4 * found.iwelbo_se.sel(K=100)).all())


def test_a_point_mass_may_stand_for_any_latent():
    """A delta guide is known: it is no bound, or exact for a mass."""
    guide = guide_of(lambda number: dist.Delta(number.round().detach()))
    for prior in (dist.Normal(0.0, 1.0), dist.Bernoulli(0.5)):
        pyro.clear_param_store()
        assert check(model_of(prior), lambda x: guide(x), X)[1:] == []
        assert bounds(model_of(prior), guide, X, particles=10).attrs["is_bound"] == 0


def test_a_factor_in_the_guide_observes_nothing():
    def guide(x):
        number = pyro.param("number", torch.tensor(0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(number.expand(len(x)), 0.5))
            pyro.factor("extra", -number.square().expand(len(x)), has_rsample=True)

    pyro.clear_param_store()
    assert check(NORMAL, guide, X) == []
    fit(NORMAL, guide, X, epochs=1, progress=False)
    bounds(NORMAL, guide, X, particles=10)


def outside(x):
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(0.0, scale), obs=x)


def lognormal(x):
    pyro.sample("scale", dist.LogNormal(0.0, 1.0))


SHARED = {
    "annealed": lambda x: annealed(outside, None, x, steps=30, chains=20).log_evidence,
    "quadrature": lambda x: quadrature(outside, x, nodes=50).log_evidence,
    "bounds": lambda x: bounds(outside, lognormal, x, particles=500).iwelbo.sel(K=500),
}


@pytest.mark.parametrize("measure", SHARED)
def test_what_all_the_data_share_is_measured_as_a_whole(measure):
    """By the integral over the scale, to 4 standard errors of the annealed chains."""
    pyro.set_rng_seed(0)
    scales = torch.linspace(0.01, 30.0, 30_000)
    joint = dist.LogNormal(0.0, 1.0).log_prob(scales) + dist.Normal(0.0, scales[:, None]).log_prob(X).sum(1)
    exact = float((joint + (scales[1] - scales[0]).log()).logsumexp(0))
    found = SHARED[measure](X)
    assert found.shape == (1,)
    assert float(found[0]) == pytest.approx(exact, abs=1.3 if measure == "annealed" else 0.3)


def test_a_sandwich_of_what_all_the_data_share_is_one():
    _, found = sandwich(outside, X, steps=3, chains=2)
    assert found.lower.shape == found.upper.shape == (1,)


def test_a_model_without_latents_has_no_path_to_anneal_along():
    def model(x):
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    with pytest.raises(InputError, match="the model has no latents to move through"):
        annealed(model, None, X, steps=3, chains=2)
