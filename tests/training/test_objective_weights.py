"""A KL weight and free bits: their gradients, the bound that is told all the same, schedules, and where they end up."""

import math
import warnings
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from cut_off import OBSERVED, Cut, bits, normal, train
from divided import taken
from pyro import poutine
from pyro.infer import RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from sharing import DATA, INPUTS, guide_of, regression
from torch.distributions import kl_divergence
from zoo import COVERING

from ppl_vae import CaptureWarning, Converged, InputError, cosine, cyclical, fit, warm_up
from ppl_vae.estimators import (
    IWAE,
    RELAX,
    VIMCO,
    DisARM,
    DReG,
    Enumeration,
    GumbelSoftmax,
    LeaveOneOut,
    NeuralBaseline,
    Pathwise,
    PathwiseKL,
    Reinforce,
    RunningMean,
    ScoreFunction,
    StickingTheLanding,
)
from ppl_vae.estimators.weighed import weighed
from ppl_vae.estimators.weights import Weights
from ppl_vae.guides import IAF, Amortized, Diagonal, Full
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.training.capture import MANY_STEPS
from ppl_vae.training.captured_batch import CapturedBatch

X = torch.bernoulli(torch.full((30, OBSERVED), 0.3, dtype=torch.float64), generator=torch.Generator().manual_seed(0))
BETA = 4.0


def doubled(make, reparameterized=True):
    model, guide = (part.double() for part in make())
    guide.reparameterized = reparameterized
    return model, guide


def weights(factor=BETA, free=0.0, pair=None, batch=(X,)):
    """Weights of a factor, with room for the rates of a pair."""
    made = Weights(torch.tensor(factor, dtype=torch.float64), free, "kl_weight is 4")
    if pair is not None:
        with local_parameters(*pair):
            guide_trace = poutine.trace(pair[1]).get_trace(*batch)
            model_trace = poutine.trace(poutine.replay(pair[0], trace=guide_trace)).get_trace(*batch)
            made.meet(guide_trace, model_trace, len(batch[0]))
    return made


def numbers_of(elbo, model, guide, batch=(X,)):
    """The loss and the gradients of one step."""
    leaves = [*model.parameters(), *guide.parameters()]
    for leaf in leaves:
        leaf.grad = None
    with local_parameters(model, guide):
        pyro.set_rng_seed(7)
        loss = elbo.loss_and_grads(model, anchored(guide), *batch)
    return loss, [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]


def anchored(guide):
    def run(*args):
        pyro.param("anchor", torch.zeros(()))
        return guide(*args)

    return run


def by_hand(model, guide, surrogate, particles=1):
    """The gradients of a surrogate of q, z, log p(x | z), log p(z) and log q(z), on the draws of the same seed."""
    leaves = [*model.parameters(), *guide.parameters()]
    with local_parameters(model, guide):
        pyro.set_rng_seed(7)
        run = guide if particles == 1 else pyro.plate("particles", particles, dim=-2)(guide)
        site = poutine.trace(run).get_trace(X).nodes["z"]
        q, z = site["fn"], site["value"]
        value = surrogate(q, z, model.likelihood, model.prior())
    return torch.autograd.grad(-value, leaves, allow_unused=True)


def path(q, z, likelihood, p):
    return (likelihood(z).log_prob(X) + BETA * (p.log_prob(z) - q.log_prob(z))).sum()


def closed(q, z, likelihood, p):
    return (likelihood(z).log_prob(X) - BETA * kl_divergence(q, p.expand(q.batch_shape))).sum()


def landing(q, z, likelihood, p):
    held = dist.Normal(q.base_dist.loc.detach(), q.base_dist.scale.detach()).to_event(1)
    return (likelihood(z).log_prob(X) + BETA * (p.log_prob(z) - held.log_prob(z))).sum()


def score(q, z, likelihood, p, baseline=lambda signal: 0.0):
    z = z.detach()
    signal = (likelihood(z).log_prob(X) + BETA * (p.log_prob(z) - q.log_prob(z))).detach()
    terms = (signal - baseline(signal)) * q.log_prob(z) + likelihood(z).log_prob(X) + BETA * p.log_prob(z)
    return terms.sum() / (len(z) if z.dim() == 3 else 1)


def of_others(signal):
    return signal.flip(0)


@pytest.mark.parametrize(
    ("make", "elbo", "reparameterized", "surrogate", "particles"),
    [
        (normal, Trace_ELBO, True, path, 1),
        (normal, Pathwise, True, path, 1),
        (normal, TraceGraph_ELBO, True, path, 1),
        (normal, TraceMeanField_ELBO, True, closed, 1),
        (normal, PathwiseKL, True, closed, 1),
        (normal, StickingTheLanding, True, landing, 1),
        (normal, Trace_ELBO, False, score, 1),
        (normal, ScoreFunction, False, score, 1),
        (normal, Reinforce, True, score, 1),
        (normal, RunningMean, True, score, 1),  # whose first baseline is 0
        (bits, Trace_ELBO, True, score, 1),
        (bits, TraceGraph_ELBO, True, score, 1),
        (bits, Reinforce, True, score, 1),
        (bits, LeaveOneOut, True, partial(score, baseline=of_others), 2),
    ],
)
def test_the_gradient_is_that_of_the_objective_written_by_hand(make, elbo, reparameterized, surrogate, particles):
    model, guide = doubled(make, reparameterized)
    _, found = numbers_of(weighed(elbo(), weights()), model, guide)
    expected = by_hand(model, guide, surrogate, particles)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if two is None else two, rtol=1e-9, atol=1e-11)


def test_a_neural_baseline_learns_the_weighted_signal():
    model, guide = doubled(bits)
    elbo = NeuralBaseline()
    network = elbo.learned(model, guide, X).double()

    def surrogate(q, z, likelihood, p):
        baseline = network(X).squeeze(-1)
        signal = (likelihood(z).log_prob(X) + BETA * (p.log_prob(z) - q.log_prob(z))).detach()
        lesson = -0.5 * (signal - baseline).square().sum()
        return score(q, z, likelihood, p, lambda signal: baseline.detach()) + lesson

    for leaf in network.parameters():
        leaf.grad = None
    _, found = numbers_of(weighed(elbo, weights()), model, guide)
    of_network = [leaf.grad.clone() for leaf in network.parameters()]
    expected = by_hand(model, guide, surrogate)
    torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-11)
    with local_parameters(model, guide):
        pyro.set_rng_seed(7)
        z = guide(X)
        q, p, likelihood = guide.posterior(X), model.prior(), model.likelihood(z)
        signal = (likelihood.log_prob(X) + BETA * (p.log_prob(z) - q.log_prob(z))).detach()
    error = 0.5 * (signal - network(X).squeeze(-1)).square().sum()
    torch.testing.assert_close(of_network, list(torch.autograd.grad(error, list(network.parameters()))))


def test_all_states_are_weighed_as_one_draw_is_on_average():
    model, guide = doubled(bits)
    _, exact = numbers_of(weighed(Enumeration(), weights()), model, guide)
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)[:, None]
    q = guide.posterior(X)
    log_q = q.log_prob(states.expand(8, len(X), 3))
    terms = model.likelihood(states).log_prob(X) + BETA * (model.prior().log_prob(states) - log_q)
    leaves = [*model.parameters(), *guide.parameters()]
    torch.testing.assert_close(exact, list(torch.autograd.grad(-(log_q.exp() * terms).sum(), leaves)))
    for elbo in (DisARM(2000), RELAX(2000)):
        if isinstance(elbo, RELAX):
            elbo.learned(model, guide, X).double()
            elbo.adapting = False
        _, found = numbers_of(weighed(elbo, weights()), model, guide)
        one, two = (torch.cat([part.flatten() for part in side]) for side in (exact, found))
        assert (one - two).norm() < 0.05 * one.norm(), type(elbo)


def test_a_relaxed_draw_has_the_divergence_weighed_that_has_a_closed_form():
    model, guide = doubled(bits)
    plain, weighted = (numbers_of(weighed(GumbelSoftmax(), w), model, guide) for w in (None, weights()))
    assert plain[0] == weighted[0]
    q = guide.posterior(X)
    divergence = kl_divergence(q, model.prior().expand(q.batch_shape)).sum()
    slopes = torch.autograd.grad(divergence, [*model.parameters(), *guide.parameters()], allow_unused=True)
    for one, two, slope in zip(plain[1], weighted[1], slopes, strict=True):
        torch.testing.assert_close(two, one if slope is None else one + (BETA - 1) * slope)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO, TraceGraph_ELBO, StickingTheLanding, Reinforce])
def test_what_is_free_has_no_gradient_and_the_rest_all_of_it(elbo):
    """Of two dimensions, the first carries more than is free, and the second less."""
    model, guide = doubled(normal)
    pair = model, guide
    halves = []
    for rates in ([1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]):
        given = weights(free=0.5, pair=pair)
        given.rates["z"].copy_(torch.tensor(rates))
        halves.append(numbers_of(weighed(elbo(), given), *pair)[1])
    _, all_weighed = numbers_of(weighed(elbo(), weights()), *pair)
    _, none_weighed = numbers_of(weighed(elbo(), weights(0.0)), *pair)
    torch.testing.assert_close(halves[0], all_weighed, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(halves[1], none_weighed, rtol=1e-9, atol=1e-11)
    assert any((one - two).abs().max() > 1e-3 for one, two in zip(halves[2], halves[3], strict=True))
    for first, second, whole, none in zip(*halves[2:], all_weighed, none_weighed, strict=True):
        torch.testing.assert_close(first + second, whole + none, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("case", COVERING, ids=str)
def test_weights_of_one_are_none_for_any_pair(case):
    """Also those of dimensions, where a factor of 1 and an open gate for each is written as a sum over them."""
    model, guide, batch = case.make()
    elbos = [Trace_ELBO(), TraceGraph_ELBO(), Reinforce(2)]
    if model.prior(*batch[1 : 1 + model.given_count]).has_rsample:
        elbos += [TraceMeanField_ELBO(), StickingTheLanding(2)]
    for elbo in elbos:
        plain = numbers_of(elbo, model, guide, batch)
        given = weights(1.0, 0.5, (model, guide), batch)
        for rate in given.rates.values():
            rate.fill_(1.0)
        assert given.rates
        found = numbers_of(weighed(elbo, given), model, guide, batch)
        assert float(found[0]) == pytest.approx(float(plain[0]), rel=1e-12)
        torch.testing.assert_close(found[1], plain[1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("family", [Diagonal, Full, IAF])
def test_the_mean_rates_are_those_of_the_dimensions_that_can_be_told_apart(family):
    torch.manual_seed(0)
    pair = VAE(OBSERVED, 2, hidden=(8,)).double(), Amortized(family(2), OBSERVED, hidden=(8,)).double()
    given = weights(free=0.5, pair=pair)
    elbo = weighed(Trace_ELBO(2000, vectorize_particles=True, max_plate_nesting=1), given)
    numbers_of(elbo, *pair)
    with torch.no_grad(), local_parameters(*pair):
        pyro.set_rng_seed(8)
        q = pair[1].posterior(X)
        z = q.sample((2000,)) if family is not IAF else torch.stack([q() for _ in range(500)])
        ratio = q.log_prob(z) - pair[0].prior().log_prob(z)
    rate = given.rates["z"] * 2  # half of it is from before the first step
    assert rate.shape == ((2,) if family is Diagonal else ())
    assert float(rate.sum()) == pytest.approx(float(ratio.mean()), abs=0.02)
    assert float(rate.sum()) > 0.01


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO, StickingTheLanding, RunningMean])
@pytest.mark.parametrize("options", [{"kl_weight": 4.0}, {"free_bits": 2.0}, {"kl_weight": warm_up()}])
def test_the_curve_is_that_of_the_bound(elbo, options):
    def told(**given):
        pair = doubled(normal)
        return fit(*pair, X, elbo=elbo(), epochs=1, batch_size=len(X), seed=0, progress=False, **given)

    plain, weighted = told(), told(**options)
    assert weighted.elbo == pytest.approx(plain.elbo, rel=1e-12)
    assert (weighted.is_bound, weighted.weighted, weighted.note) == (True, False, "")


def flat(*programs):
    return torch.cat([leaf.detach().flatten() for program in programs for leaf in program.parameters()])


def test_a_weight_of_one_changes_nothing():
    trained = []
    for options in ({}, {"kl_weight": 1, "free_bits": 0, "clip": None}, {"kl_weight": 1.0 - 1e-9}):
        pair = normal()
        history = fit(*pair, X.float(), epochs=3, batch_size=8, seed=0, progress=False, **options)
        trained.append((flat(*pair), history.elbo))
    assert torch.equal(trained[0][0], trained[1][0])
    assert trained[0][1] == trained[1][1]
    assert trained[0][1] == pytest.approx(trained[2][1], rel=1e-5)


@pytest.mark.parametrize(
    ("elbo", "options"),
    [
        (Trace_ELBO, {"kl_weight": warm_up(), "free_bits": 0.2}),
        (TraceMeanField_ELBO, {"kl_weight": cyclical(3), "free_bits": 0.2}),
        (RunningMean, {"kl_weight": warm_up(0.5, start=0.2)}),
    ],
)
def test_a_graph_reads_the_weight_of_each_step(elbo, options, monkeypatch):
    trained = []
    replay, replays = CapturedBatch.replay, []
    monkeypatch.setattr(CapturedBatch, "replay", lambda shape, batch: replays.append(1) or replay(shape, batch))
    for capture in (False, "auto"):
        pair = doubled(normal)
        with warnings.catch_warnings():
            warnings.simplefilter("error", CaptureWarning)
            history = fit(
                *(*pair, X),
                **{"elbo": elbo(), "epochs": MANY_STEPS // 2 + 1, "batch_size": 15, "seed": 0, "capture": capture},
                progress=False,
                **options,
            )
        trained.append((flat(*pair), history.elbo))
    assert len(replays) > 450
    torch.testing.assert_close(trained[0][0], trained[1][0], rtol=1e-6, atol=1e-8)
    assert trained[0][1] == pytest.approx(trained[1][1], rel=1e-8)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("elbo", [Trace_ELBO, RunningMean])
def test_a_training_that_was_cut_off_goes_on_with_its_weights(elbo, capture, tmp_path):
    options = {"kl_weight": warm_up(0.9), "free_bits": 0.02, "clip": 0.5, "capture": capture}
    whole, curve = train(normal, elbo, **options)
    place = tmp_path / "kept.pt"
    with pytest.raises(Cut):
        train(normal, elbo, place, cut_at=11, **options)
    rest, longer = train(normal, elbo, place, **options)
    assert torch.equal(whole, rest)
    assert longer.elbo == curve.elbo


def test_a_checkpoint_is_refused_to_another_objective(tmp_path):
    place = tmp_path / "kept.pt"
    train(normal, Trace_ELBO, place, kl_weight=2.0, schedule=None)
    for options, words in [
        ({}, "whose KL weight is 2.0; here it is nothing"),
        ({"kl_weight": 3.0}, "whose KL weight is 2.0; here it is 3.0"),
        ({"kl_weight": 2, "free_bits": 1}, "whose free bits is nothing; here it is 1.0"),
        ({"kl_weight": 2, "clip": 1}, "whose clip is nothing; here it is 1.0"),
    ]:
        with pytest.raises(InputError, match=words):
            train(normal, Trace_ELBO, place, schedule=None, **options)
    place = tmp_path / "scheduled.pt"
    train(normal, Trace_ELBO, place, kl_weight=warm_up(), schedule=None)
    with pytest.raises(InputError, match="whose schedule of the KL weight is partial"):
        train(normal, Trace_ELBO, place, kl_weight=warm_up(0.5), schedule=None)
    with pytest.warns(
        UserWarning, match="holds 6 epochs with the KL weight set as for 6, and from here on it is set as"
    ):
        train(normal, Trace_ELBO, place, kl_weight=warm_up(), epochs=8, schedule=None)


@pytest.mark.parametrize("capture", [False, True])
@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO, LeaveOneOut])
def test_processes_share_a_step(elbo, capture):
    """Two shares add up to the whole; the rates too, which each process then has."""

    def make():
        return *doubled(normal), (X,)

    def objective():
        return weighed(elbo(), weights(free=0.01, pair=doubled(normal)))

    (one, _), (two, _) = (taken(make, objective, count, capture, steps=1) for count in (1, 2))
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-10)


MANY_PATHS = PathwiseKL(16, vectorize_particles=True)
AT_ONCE = {"batch_size": 30, "lr": 0.03, "schedule": cosine, "seed": 0, "progress": False}


def optimum(model):
    """The variances and means of the best diagonal q for E[log p(x | z)] - beta KL, derived by setting slopes to 0.

    Its slope in v_j is -|w_j|^2 / (2 s^2) - beta (1 - 1 / v_j) / 2, and in m it is W'(x - b - W m) / s^2 - beta m.
    """
    noise = BETA * (2 * model.log_scale).exp()
    gram = model.weight.T @ model.weight
    variances = noise / (noise + gram.diagonal())
    return variances, (X - model.bias) @ model.weight @ torch.linalg.inv(gram + noise * torch.eye(len(gram)))


@pytest.mark.parametrize("elbo", [MANY_PATHS, StickingTheLanding(16)])
def test_the_best_diagonal_guide_of_a_weighted_objective_is_found(elbo):
    torch.manual_seed(0)
    model = LinearGaussian(OBSERVED, 2, scale=1.5).double().requires_grad_(False)
    guide = Amortized(Diagonal(2), OBSERVED, hidden=()).double()
    fit(model, guide, X, elbo=elbo, epochs=1000, kl_weight=BETA, **AT_ONCE)
    variances, means = optimum(model)
    q = guide.posterior(X).base_dist
    torch.testing.assert_close(q.loc, means, rtol=0.0, atol=0.03)
    torch.testing.assert_close(q.scale.square(), variances.expand(len(X), 2), rtol=0.05, atol=0.0)


def linear(x, y):
    """A regression whose weights may have particles."""
    weights = pyro.sample("weights", dist.Normal(torch.zeros(INPUTS.shape[1]), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal((weights * x).sum(-1), 1.0), obs=y)


@pytest.mark.parametrize("elbo", [MANY_PATHS, StickingTheLanding(16)])
def test_latents_of_all_the_data_get_a_tempered_posterior(elbo):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc, self.log_scale = (torch.nn.Parameter(torch.zeros(INPUTS.shape[1])) for _ in range(2))

        def forward(self, x, y):
            pyro.sample("weights", dist.Normal(self.loc, self.log_scale.exp()).to_event(1))

    guide = Own()
    fit(linear, guide, DATA, elbo=elbo, epochs=1000, kl_weight=BETA, **AT_ONCE)
    variances = 1 / (1 + INPUTS.square().sum(0) / BETA)
    torch.testing.assert_close(guide.log_scale.detach().mul(2).exp(), variances, rtol=0.06, atol=0.0)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_a_guide_that_pyro_makes_takes_a_weight(elbo):
    def trained(weight):
        guide = AutoNormal(regression())
        pyro.set_rng_seed(0)
        fit(regression(), guide, DATA, elbo=elbo(), epochs=600, kl_weight=weight, **AT_ONCE)
        return float(guide.scales.weights.detach().log().mean())

    assert trained(BETA) > trained(1.0) + 0.3


def test_a_collapsed_pair_keeps_about_its_free_bits():
    """A large weight makes it collapse, and what is free is carried all the same."""
    prototypes = torch.bernoulli(torch.full((4, OBSERVED), 0.5), generator=torch.Generator().manual_seed(1))
    x = (prototypes[torch.arange(200) % 4] * 0.8 + 0.1).bernoulli(generator=torch.Generator().manual_seed(2))

    def rates(**options):
        torch.manual_seed(0)
        pair = VAE(OBSERVED, 2, hidden=(16,)), Amortized(Diagonal(2), OBSERVED, hidden=(16,))
        fit(*pair, x, epochs=150, kl_weight=10.0, **(AT_ONCE | {"batch_size": 50}), **options)
        q = pair[1].posterior(x).base_dist
        return kl_divergence(q, dist.Normal(torch.zeros(2), 1.0)).mean(0).detach() / math.log(2)

    assert rates().max() < 0.01
    kept = rates(free_bits=0.5)
    assert kept.min() > 0.35
    assert kept.max() < 0.65


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"kl_weight": -1.0},
            r"kl_weight is -1.0; expected a finite number from 0 on, or a schedule such as warm_up\(\)",
        ),
        ({"kl_weight": math.nan}, "kl_weight is nan; expected"),
        ({"kl_weight": math.inf}, "kl_weight is inf; expected"),
        ({"kl_weight": True}, "kl_weight is True; expected"),
        ({"kl_weight": "warm-up"}, "kl_weight is 'warm-up'; expected"),
        ({"kl_weight": lambda done: math.nan}, "kl_weight gives nan at 0; expected a factor from 0 on"),
        (
            {"kl_weight": lambda done: -1.0 if done > 0.5 else 1.0},
            "kl_weight gives -1.0 at 0.667; expected a factor from 0 on",
        ),
        ({"free_bits": -1}, "free_bits is -1; expected a finite number of bits from 0 on"),
        ({"free_bits": math.nan}, "free_bits is nan; expected"),
        ({"kl_weight": 2, "elbo": IWAE()}, "kl_weight is 2, but IWAE has no divergence of each draw to weigh: take Tr"),
        ({"kl_weight": 2, "elbo": DReG()}, "but DReG has no divergence"),
        ({"kl_weight": 2, "elbo": VIMCO()}, "but VIMCO has no divergence"),
        ({"kl_weight": 2, "elbo": RenyiELBO()}, "but RenyiELBO has no divergence"),
        ({"kl_weight": 2, "elbo": ReweightedWakeSleep()}, "but ReweightedWakeSleep has no divergence"),
        ({"kl_weight": warm_up(), "elbo": TraceEnum_ELBO()}, "kl_weight is a schedule, but TraceEnum_ELBO has no"),
        (
            {"kl_weight": 2, "until": Converged()},
            "kl_weight is 2, but Converged judges by the ELBO alone, which such a",
        ),
        ({"free_bits": 1, "elbo": Enumeration()}, "free_bits is 1, but Enumeration runs the model on other values"),
        ({"free_bits": 1, "elbo": GumbelSoftmax()}, "free_bits is 1, but GumbelSoftmax runs the model on other"),
    ],
)
def test_what_can_not_be_is_refused_in_a_sentence(options, words):
    pair = normal()
    with pytest.raises(InputError, match=words) as refused:
        fit(*pair, X.float(), epochs=1, batch_size=10, seed=0, progress=False, **options)
    assert "\n" not in str(refused.value)


def test_free_bits_are_refused_where_all_the_data_share_the_latents():
    with pytest.raises(InputError, match=r"free_bits is 1, which is for the latents of each data point, but all the"):
        fit(regression(), guide_of(), DATA, batch_size=12, epochs=1, free_bits=1, progress=False)
    with pytest.raises(InputError, match="free_bits is 1, but the guide draws its latents by way of 'weights_unc"):
        fit(regression(), AutoNormal(regression()), DATA, batch_size=12, epochs=1, free_bits=1, progress=False)


def test_an_estimator_of_ones_own_says_that_it_takes_weights():
    class Mine(Reinforce):
        def objective(self, model, guide, batch):
            value = self.run(model, guide, batch).log_weights.mean(0)
            return value, value

    with pytest.raises(InputError, match=r"Mine has no divergence .* says so by takes_weights = True"):
        fit(*normal(), X.float(), elbo=Mine(), epochs=1, kl_weight=2.0, progress=False)
    Mine.takes_weights = True
    fit(*normal(), X.float(), elbo=Mine(), epochs=1, kl_weight=2.0, progress=False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: warm_up(0.0), "share of warm_up is 0.0; expected one above 0, and 1 at most"),
        (lambda: warm_up(math.nan), "share of warm_up is nan"),
        (lambda: warm_up(start=-1), "start of warm_up is -1; expected a finite weight from 0 on"),
        (lambda: cyclical(0), "cycles of cyclical is 0; expected a whole number from 1 on"),
        (lambda: cyclical(2.0), "cycles of cyclical is 2.0"),
        (lambda: cyclical(share=1.5), "share of cyclical is 1.5; expected one above 0"),
    ],
)
def test_a_schedule_of_nonsense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
