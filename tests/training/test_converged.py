"""The rule that stops by what is left to gain: against the truth, cut off and gone on with, and what it refuses."""

import pytest
import torch
from pyro.infer import ReweightedWakeSleep
from pyro.infer.autoguide import AutoNormal

from ppl_vae import Converged, InputError, StoppingRule, cosine, fit, remaining
from ppl_vae.guides import Amortized, Full
from ppl_vae.models import LinearGaussian, LinearRegression
from ppl_vae.training.averages import Averages

DATA = LinearRegression.example_data()
OPTIONS = {"lr": 0.02, "batch_size": len(DATA[0]), "seed": 0, "progress": False}


def regression():
    torch.manual_seed(0)
    model = LinearRegression.for_data(*DATA)
    return model, AutoNormal(model)


def left_of(model, guide):
    """What the best diagonal guide gains, from both divergences in closed form; nats."""
    exact = model.posterior(*DATA)
    root = exact.scale_tril.double()
    precision = torch.cholesky_inverse(root)
    best = (precision.diagonal().log().sum() - torch.logdet(precision)) / 2
    scale = guide.scales.weights.detach().double()
    of_guide = torch.distributions.MultivariateNormal(
        guide.locs.weights.detach().double(), scale_tril=torch.diag(scale)
    )
    exact = torch.distributions.MultivariateNormal(exact.loc.double(), scale_tril=root)
    return float(torch.distributions.kl_divergence(of_guide, exact) - best)


def test_what_is_left_is_within_the_tolerance_and_the_prediction():
    pair = regression()
    history = fit(*pair, DATA, until=Converged(0.1), epochs=20_000, **OPTIONS)
    assert history.ended.startswith("at most")
    assert len(history.elbo) < 20_000
    assert 0 < left_of(*pair) < history.remaining < 0.1


def test_a_training_that_ends_early_predicts_more_than_its_tolerance():
    pair = regression()
    history = fit(*pair, DATA, until=Converged(0.02), epochs=600, **OPTIONS)
    assert history.ended == "all 600 epochs are done"
    assert history.remaining > 0.02
    too_short = fit(*regression(), DATA, until=Converged(0.02), epochs=64, **OPTIONS)
    assert too_short.remaining != too_short.remaining  # NaN: nothing to predict from


def test_remaining_measures_what_is_left_after_a_short_training():
    pair = regression()
    fit(*pair, DATA, epochs=500, **OPTIONS)
    before = [leaf.clone() for leaf in pair[1].parameters()]
    left = remaining(*pair, DATA, nats=0.1, particles=4000, **OPTIONS)
    assert all(map(torch.equal, before, pair[1].parameters()))
    error = 4 * float(left.parameters_se) + 0.1
    assert float(left.parameters) + float(left.predicted) / 2 == pytest.approx(left_of(*pair), abs=error)
    assert "amortization" not in left
    assert left.attrs["unit"] == "data set"


def test_the_amortization_is_that_of_the_encoder():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    model = LinearGaussian(4, 2).initialize(x).requires_grad_(False)
    guide = Amortized(Full(2), 4, hidden=())
    options = {"lr": 0.03, "batch_size": 60, "seed": 0, "progress": False}
    left = remaining(model, guide, x, nats=0.05, epochs=4000, particles=200, points=20, **options)
    with torch.no_grad():
        (of_guide,) = guide.posterior(x).transforms
        root = of_guide.scale[..., None] * of_guide.unit
        gaussian = torch.distributions.MultivariateNormal(of_guide.loc, scale_tril=root)
        gap = torch.distributions.kl_divergence(gaussian, model.posterior(x)).mean()
    # a linear encoder reaches the exact posterior of each point, so both parts are the whole gap
    assert float(left.parameters) == pytest.approx(float(gap), abs=4 * float(left.parameters_se) + 0.05)
    assert float(left.amortization.mean()) == pytest.approx(float(gap), rel=0.25)


def test_a_training_that_was_cut_off_stops_where_one_without_a_break_does(tmp_path):
    class Cut(Exception):
        pass

    def cut(done):
        if done == 700:
            raise Cut

    whole, rest = regression(), regression()
    rule = {"until": Converged(0.3), "epochs": 4000}
    history = fit(*whole, DATA, **rule, **OPTIONS, after_epoch=lambda done: False, checkpoint=tmp_path / "whole")
    with pytest.raises(Cut):
        fit(*rest, DATA, **rule, **OPTIONS, after_epoch=cut, checkpoint=tmp_path / "cut")
    rest = regression()
    again = fit(*rest, DATA, **rule, **OPTIONS, after_epoch=lambda done: False, checkpoint=tmp_path / "cut")
    assert (again.ended, again.remaining, again.elbo) == (history.ended, history.remaining, history.elbo)
    assert all(map(torch.equal, whole[1].parameters(), rest[1].parameters()))
    finished = regression()
    same = fit(*finished, DATA, **rule, **OPTIONS, after_epoch=lambda done: False, checkpoint=tmp_path / "cut")
    assert (same.remaining, len(same.elbo)) == (history.remaining, len(history.elbo))
    assert all(map(torch.equal, whole[1].parameters(), finished[1].parameters()))


def test_a_rule_of_ones_own_stops_and_its_words_are_kept():
    class Three(StoppingRule):
        def after_epoch(self, training):
            return "three are enough" if len(training.history.elbo) == 3 else ""

    history = fit(*regression(), DATA, until=Three(), epochs=9, **OPTIONS)
    assert (len(history.elbo), history.ended) == (3, "three are enough")


def test_averages_are_the_means_of_equal_parts():
    leaf = torch.nn.Parameter(torch.zeros(1))
    averages = Averages([leaf])
    for step in range(50 * 40):
        leaf.data.fill_(step)
        averages.add()
    assert averages.steps == 50 * 40
    assert averages.half == 5
    (mean,) = averages.mean(averages.half, 0)
    assert float(mean) == pytest.approx(sum(range(1000, 2000)) / 1000)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"until": 0.02}, "until is 0.02; expected a rule"),
        ({"until": Converged(), "schedule": cosine}, "Converged lowers the learning rate itself"),
        ({"until": Converged(), "elbo": ReweightedWakeSleep()}, "ReweightedWakeSleep has no bound"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        fit(*regression(), DATA, epochs=2, **OPTIONS, **options)


@pytest.mark.parametrize("nats", [0, -1, float("nan"), float("inf"), "0.1", True])
def test_a_tolerance_is_a_number_above_0(nats):
    with pytest.raises(InputError, match="nats is"):
        Converged(nats)
