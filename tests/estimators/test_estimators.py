"""Gradient estimators in use: over the zoo, in plain SVI, with what they learn, and what they refuse."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO
from pyro.optim import Adam
from torch import nn
from zoo import EACH_ONCE, Case

from ppl_vae import Guide, InputError, fit, freeze
from ppl_vae.estimators import (
    ESTIMATORS,
    RELAX,
    DisARM,
    DReG,
    Enumeration,
    GumbelSoftmax,
    LeaveOneOut,
    NeuralBaseline,
    Pathwise,
    RunningMean,
    ScoreFunction,
    StraightThrough,
    estimator,
)
from ppl_vae.guides import Amortized, Bernoulli, Diagonal, TwoLayer
from ppl_vae.models import VAE, BernoulliVAE, TwoLayerVAE

OBSERVED = 12
ONE_SITE = ("dreg", "enumeration", "gumbel-softmax", "straight-through", "straight-through-gumbel", "disarm", "relax")


def kind(model, batch):
    prior = model.prior(*batch[1 : 1 + model.given_count])
    discrete = not prior.has_rsample
    support = getattr(prior.support, "base_constraint", prior.support)
    return not discrete, discrete, discrete and support is torch.distributions.constraints.boolean


def bits():
    torch.manual_seed(0)
    x = torch.ones(5, OBSERVED).mul(0.5).bernoulli()
    return BernoulliVAE(OBSERVED, 4, hidden=(8,)), Amortized(Bernoulli(4), OBSERVED, hidden=(8,)), x


def continuous(**options):
    torch.manual_seed(0)
    x = torch.ones(5, OBSERVED).mul(0.5).bernoulli()
    return VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,), **options), x


@pytest.mark.parametrize("case", [case for case in EACH_ONCE if case.is_bound], ids=str)
def test_every_estimator_that_fits_reaches_every_parameter(case: Case):
    tried = 0
    for name, entry in ESTIMATORS.items():
        model, guide, batch = case.make()
        if not entry.fits(*kind(model, batch)) or (name in ONE_SITE and case.model == "two-layer-vae"):
            continue
        if entry.latents == "not reparameterized":
            if not hasattr(guide, "reparameterized") and kind(model, batch)[0]:
                continue
            guide.reparameterized = False
        fit(
            model, guide, batch, elbo=estimator(name), epochs=1, batch_size=3, progress=False
        )  # 5 rows: a short last batch
        for key, parameter in [*model.named_parameters(), *guide.named_parameters()]:
            if not parameter.requires_grad:
                continue
            assert parameter.grad is not None, (name, key)
            assert parameter.grad.to_dense().isfinite().all(), (name, key)
        tried += 1
    assert tried >= 5


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_every_estimator_runs_in_a_plain_svi_script(name):
    model, guide, x = bits() if ESTIMATORS[name].fits(False, True, True) else continuous()
    pyro.clear_param_store()
    elbo = estimator(name)
    before = [leaf.clone() for leaf in guide.parameters()]
    svi = SVI(model, guide, Adam({"lr": 1e-2}), elbo)
    losses = [svi.step(x) for _ in range(3)]
    assert all(torch.isfinite(torch.tensor(loss)) for loss in losses)
    assert all(not torch.equal(old, new) for old, new in zip(before, guide.parameters(), strict=True))
    if hasattr(elbo, "learned") and (network := elbo.learned(model, guide, x)) is not None:
        trained = {id(value) for value in svi.optim.optim_objs}
        assert {id(leaf) for leaf in network.parameters()} <= trained


def test_enumeration_is_pyros_on_a_single_bit():
    def make(event):
        def model(x):
            with pyro.plate("data", len(x)):
                prior = dist.Bernoulli(0.3).expand([1]).to_event(1) if event else dist.Bernoulli(0.3)
                z = pyro.sample("z", prior)
                z = z.squeeze(-1) if event else z
                pyro.sample("x", dist.Normal(2 * z, 1.0), obs=x)

        def guide(x):
            logit = pyro.param("logit", torch.tensor(0.4))
            with pyro.plate("data", len(x)):
                shape = (len(x), 1) if event else (len(x),)
                q = dist.Bernoulli(logits=logit.expand(shape))
                pyro.sample("z", q.to_event(1) if event else q, infer={} if event else {"enumerate": "parallel"})

        return model, guide

    x = torch.tensor([0.1, 1.5, 2.0])
    found = []
    for event, elbo in ((True, Enumeration()), (False, TraceEnum_ELBO(max_plate_nesting=1))):
        pyro.clear_param_store()
        model, guide = make(event)
        loss = elbo.loss_and_grads(model, guide, x)
        found.append((loss, pyro.param("logit").grad.item()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_switch_gives_pyros_two_gradients():
    """Trace_ELBO and TraceGraph_ELBO as they are: the same mean, the second one far noisier."""
    found = {}
    for elbo, reparameterized in ((Trace_ELBO(), True), (TraceGraph_ELBO(), False)):
        model, guide, x = continuous(reparameterized=reparameterized)
        freeze(model)
        leaf = list(guide.parameters())[-1]
        draws = []
        pyro.clear_param_store()
        for _ in range(200):
            leaf.grad = None
            elbo.loss_and_grads(model, guide, x)
            draws.append(leaf.grad.clone())
        found[reparameterized] = torch.stack(draws)
    path, score = found[True], found[False]
    error = (path.var(0) / 200 + score.var(0) / 200).sqrt()
    assert ((path.mean(0) - score.mean(0)).abs() / error).max() < 4
    assert score.var(0).sum() > 5 * path.var(0).sum()


def test_a_running_mean_follows_the_signal():
    model, guide, x = bits()
    elbo = RunningMean(num_particles=3, decay=0.5)
    history = fit(model, guide, x, elbo=elbo, epochs=20, batch_size=2, progress=False)
    assert elbo.baseline(torch.zeros(3, 2), (x,)).item() == pytest.approx(history.elbo[-1], rel=0.2)
    before = elbo.state[0].clone()
    elbo.loss(model, guide, x)
    assert torch.equal(elbo.state[0], before)


def test_a_neural_baseline_learns_the_signal_of_each_data_point():
    torch.manual_seed(0)
    model, guide, _ = bits()
    freeze(model), freeze(guide)
    x = torch.cat([torch.zeros(4, OBSERVED), torch.ones(4, OBSERVED)])
    with torch.no_grad():
        list(model.parameters())[-1].fill_(3.0)  # ones are likely now, zeros are not
    guide.requires_grad_(True)
    elbo = NeuralBaseline(num_particles=5)
    fit(
        model,
        guide,
        x,
        elbo=elbo,
        optimizer=lambda leaves: torch.optim.Adam(leaves, lr=1e-2),
        epochs=300,
        batch_size=3,
        progress=False,
    )
    guessed = elbo.network(x).squeeze(-1).detach()
    truth = torch.tensor([-elbo.loss(model, guide, x[:4]) / 4, -elbo.loss(model, guide, x[4:]) / 4])
    assert abs(truth[0] - truth[1]) > 10
    assert guessed.reshape(2, 4).mean(1).numpy() == pytest.approx(truth.numpy(), abs=2)


def test_relax_learns_to_vary_less():
    from ppl_vae import gradient_statistics

    model, guide, x = bits()
    found = [
        float(
            gradient_statistics(
                model, guide, x, elbo=RELAX(temperature=0.1), draws=500, learning_steps=steps
            ).variance.sel(group="guide")
        )
        for steps in (0, 150)
    ]
    assert found[1] < 0.7 * found[0]


def test_a_relaxed_bound_is_none():
    model, guide, x = bits()
    assert not fit(model, guide, x, elbo=GumbelSoftmax(), epochs=1, progress=False).is_bound
    assert fit(model, guide, x, elbo=GumbelSoftmax(hard=True), epochs=1, progress=False).is_bound
    assert fit(model, guide, x, elbo=StraightThrough(), epochs=1, progress=False).is_bound


class Baselined(Guide):
    """A guide with Pyro's nn_baseline, registered or not."""

    def __init__(self, registered):
        super().__init__()
        self.encoder = nn.Linear(OBSERVED, 4)
        network = nn.Sequential(nn.Linear(OBSERVED, 1), nn.Flatten(0))
        self.kept = network if registered else [network]

    def forward(self, x):
        network = self.kept if isinstance(self.kept, nn.Module) else self.kept[0]
        with pyro.plate("data", len(x)):
            q = dist.Bernoulli(logits=self.encoder(x)).to_event(1)
            pyro.sample("z", q, infer={"baseline": {"nn_baseline": network, "nn_baseline_input": x.detach()}})


def test_an_unregistered_baseline_is_refused():
    model, _, x = bits()
    with pytest.raises(InputError, match="nn_baseline of site 'z' is not registered, so nothing trains it: call pyro"):
        fit(model, Baselined(False), x, elbo=TraceGraph_ELBO(), epochs=1, progress=False)
    guide = Baselined(True)
    before = guide.kept[0].weight.clone()
    fit(model, guide, x, elbo=TraceGraph_ELBO(), epochs=1, progress=False)
    assert not torch.equal(before, guide.kept[0].weight)


REFUSED = {
    "pathwise on bits": (bits, Pathwise, "differentiates through the draws of z.*it is discrete: take score-function"),
    "pathwise on constants": (
        lambda: continuous(reparameterized=False),
        Pathwise,
        "build the guide without reparameterized=False, or take score-function",
    ),
    "dreg on bits": (bits, DReG, "DReG differentiates through the draws of z"),
    "score on paths": (continuous, ScoreFunction, "but Pyro reparameterizes site 'z': build the guide with repara"),
    "renyi on bits": (bits, lambda: RenyiELBO(alpha=0, num_particles=3), "RenyiELBO's gradient is zero at.*take VIMCO"),
    "disarm on paths": (continuous, DisARM, "DisARM is for a vector of independent Bernoulli latents"),
    "relax on paths": (continuous, RELAX, "RELAX is for a vector of independent Bernoulli latents"),
    "gumbel on paths": (continuous, GumbelSoftmax, "GumbelSoftmax is for Bernoulli or one-hot categorical latents"),
    "enumeration on paths": (continuous, Enumeration, "needs a discrete latent of at most 65536 states"),
    "two sites": (
        lambda: (
            TwoLayerVAE(OBSERVED, 2, middle_dim=3, widths=(8, 8)),
            TwoLayer(OBSERVED, 2, middle_dim=3, widths=(8, 8)),
            torch.ones(3, OBSERVED),
        ),
        DReG,
        r"DReG is for one latent site, the guide has \['z1', 'z2'\]",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_pair_that_does_not_fit_is_refused(what):
    pair, elbo, message = REFUSED[what]
    model, guide, x = pair()
    with pytest.raises(InputError, match=message):
        fit(model, guide, x, elbo=elbo(), epochs=1, progress=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: estimator("reinforced"), "there is no estimator 'reinforced': choose from pathwise"),
        (lambda: estimator("rloo", 1), "rloo needs at least 2 particles, not 1"),
        (lambda: LeaveOneOut(1), "num_particles is 1; LeaveOneOut needs at least 2"),
        (lambda: DisARM(3), "num_particles is 3; DisARM needs a multiple of 2"),
        (lambda: GumbelSoftmax(temperature=0.0), "temperature is 0.0; it must be above 0"),
        (lambda: RELAX(temperature=-1.0), "temperature is -1.0; it must be above 0"),
    ],
)
def test_wrong_settings_are_told(make, message):
    with pytest.raises(InputError, match=message):
        make()
