"""Fitting: any ELBO, any make of program, and what goes wrong."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import (
    JitTrace_ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
)
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam as PyroAdam
from pyro.optim import ClippedAdam
from torch import nn
from zoo import Case

from ppl_vae import bounds, cosine, fit, freeze
from ppl_vae.estimators import IWAE
from ppl_vae.training.capture import CaptureWarning
from ppl_vae.training.fit import resolve_device

ELBOS = {
    "Trace_ELBO": Trace_ELBO(),
    "Trace_ELBO, vectorized": Trace_ELBO(num_particles=4, vectorize_particles=True),
    "JitTrace_ELBO": JitTrace_ELBO(ignore_jit_warnings=True),
    "TraceGraph_ELBO": TraceGraph_ELBO(),
    "TraceMeanField_ELBO": TraceMeanField_ELBO(),
    "TraceEnum_ELBO": TraceEnum_ELBO(max_plate_nesting=1),
    "TraceTailAdaptive_ELBO": TraceTailAdaptive_ELBO(num_particles=4, vectorize_particles=True),
    "RenyiELBO": RenyiELBO(alpha=0.0, num_particles=4, vectorize_particles=True),
    "ReweightedWakeSleep": ReweightedWakeSleep(num_particles=4),
}


@pytest.mark.parametrize("name", ELBOS)
def test_any_elbo_of_pyro_trains(name):
    model, guide, (x,) = Case("linear-gaussian", "diagonal").make()
    x = torch.cat([x, x] if name.startswith("Jit") else [x, x, x[:1]])  # 11 rows: the last batch is short
    start = bounds(model, guide, x, particles=200).elbo.mean()
    history = fit(model, guide, x, elbo=ELBOS[name], epochs=60, batch_size=5, progress=False, seed=0)
    assert len(history.elbo) == len(history.seconds) == 60
    assert bounds(model, guide, x, particles=200).elbo.mean() > start + 1


@pytest.mark.parametrize("optimizer", [partial(torch.optim.SGD, lr=1e-3), PyroAdam({"lr": 1e-2}), ClippedAdam({})])
def test_any_optimizer_trains(optimizer):
    model, guide, (x,) = Case("linear-gaussian", "full").make()
    before = [parameter.clone() for parameter in guide.parameters()]
    fit(model, guide, x, optimizer=optimizer, epochs=3, progress=False)
    assert all(not torch.equal(old, new) for old, new in zip(before, guide.parameters(), strict=True))


def plain_model(x):
    loc = pyro.param("loc", torch.zeros(()))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(loc, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def plain_guide(x):
    scale = pyro.param("scale", torch.ones(()), constraint=dist.constraints.positive)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x, scale))


def test_functions_with_parameters_in_the_store():
    """The optimum for this guide, z ~ N(x, s^2): the model's mean is the data's and s^2 = 1/2."""
    x = 3 + torch.randn(200)
    fit(
        plain_model,
        plain_guide,
        x,
        epochs=400,
        batch_size=200,
        progress=False,
        schedule=cosine,
        elbo=Trace_ELBO(num_particles=20, vectorize_particles=True),
        optimizer=PyroAdam({"lr": 0.05}),
    )
    assert pyro.param("loc").item() == pytest.approx(x.mean().item(), abs=0.05)
    assert pyro.param("scale").item() == pytest.approx(0.5**0.5, abs=0.03)
    assert "ppl_vae.anchor" not in pyro.get_param_store()


class PlainGuide(nn.Module):
    """Neither a PyroModule nor a pyro.module statement."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 3)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), 0.5).to_event(1))


def test_plain_modules_train():
    model, _, (x,) = Case("linear-gaussian", "diagonal").make()
    freeze(model)
    guide = PlainGuide().double()
    before = guide.encoder.weight.clone()
    fit(model, guide, x, epochs=2, progress=False)
    assert not torch.equal(guide.encoder.weight, before)


def test_autoguides_train():
    x = torch.randn(20)
    guide = AutoNormal(plain_model)
    fit(plain_model, guide, x, epochs=300, batch_size=20, progress=False, optimizer=partial(torch.optim.Adam, lr=0.05))
    assert guide.median()["z"].shape == (20,)


def test_autoguides_of_one_name_share_nothing():
    """In Pyro's store they would: the second goes on where the first has ended."""
    model, _, (x,) = Case("linear-gaussian", "diagonal").make()
    freeze(model)
    curves = [fit(model, AutoNormal(model), x, epochs=3, batch_size=5, seed=0, progress=False).elbo for _ in range(2)]
    assert curves[0] == curves[1]
    assert curves[0][-1] != curves[0][0]


def test_minibatches_cover_the_data_and_are_transformed_anew():
    seen = []

    def watch(x):
        seen.append(x.clone())
        return torch.bernoulli(x)

    model, guide, _ = Case("vae", "diagonal").make()
    grey = torch.rand(7, 12, dtype=torch.float64)
    history = fit(model, guide, grey, epochs=2, batch_size=3, transform=watch, progress=False)
    epochs = torch.cat(seen[1:])  # the first is the run that finds the parameters
    assert [len(batch) for batch in seen[1:]] == [3, 3, 1, 3, 3, 1]
    for part in epochs.split(7):
        torch.testing.assert_close(part.sort(0).values, grey.sort(0).values)
    assert history.points_per_second > 0


def test_several_tensors_go_to_both_programs():
    def model(x, shift):
        plain_model(x - shift)

    def guide(x, shift):
        plain_guide(x - shift)

    history = fit(model, guide, (torch.zeros(6), torch.ones(6)), epochs=1, progress=False)
    assert history.size == 6


def test_modules_end_in_eval_mode_and_frozen_ones_never_leave_it():
    model, guide, (x,) = Case("vae", "diagonal").make()
    freeze(model)
    modes = []
    guide.encoder.register_forward_hook(lambda *_: modes.append((model.training, guide.training)))
    fit(model, guide, x, epochs=1, progress=False)
    assert set(modes) == {(False, True)}
    assert not guide.training


def nan_after(steps):
    calls = iter(range(1000))

    def transform(x):
        return x * torch.nan if next(calls) > steps else x

    return transform


def test_a_failed_step_leaves_the_parameters_of_the_one_before():
    def run(**options):
        model, guide, (x,) = Case("vae-gaussian", "diagonal").make()
        try:
            fit(model, guide, x, batch_size=5, progress=False, seed=0, **options)
        except ValueError as error:
            return guide.state_dict(), str(error)
        return guide.state_dict(), ""

    whole, _ = run(epochs=3)
    failed, message = run(epochs=5, transform=nan_after(3))
    assert message.startswith("the ELBO became nan in epoch 4, step 1: lower the learning rate")
    assert all(torch.equal(failed[name], whole[name]) for name in whole)


def pair():
    return Case("linear-gaussian", "diagonal").make()


BAD = torch.zeros(4, 12, dtype=torch.float64)
BAD[2, 5] = torch.nan
ERRORS = {
    "compiled with a short batch": (
        lambda: fit(*pair(), batch_size=2, elbo=JitTrace_ELBO()),
        "the last batch is shorter: take a batch_size that divides 5, not 2",
    ),
    "empty": (lambda: fit(*pair()[:2], torch.zeros(0, 12)), "the data are empty"),
    "unequal": (lambda: fit(*pair()[:2], (torch.zeros(3, 12), torch.zeros(2))), r"have \[3, 2\] rows"),
    "nan": (lambda: fit(*pair()[:2], BAD), "tensor 0 of data has NaN or infinity in 1 of 4 rows, first in row 2"),
    "epochs": (lambda: fit(*pair(), epochs=0), "epochs is 0; a whole number from 1 on is needed"),
    "batch size": (lambda: fit(*pair(), batch_size=-1), "batch_size is -1; a whole number from 1 on is needed"),
    "all frozen": (lambda: fit(freeze(pair()[0]), freeze(pair()[1]), pair()[2]), "there is nothing to fit"),
    "device": (lambda: resolve_device("warp"), "device 'warp' can't be used here"),
    "optimizer per parameter": (
        lambda: fit(*pair(), optimizer=PyroAdam(lambda name: {"lr": 1e-3})),
        "give fit a function",
    ),
}


@pytest.mark.parametrize("error", ERRORS)
def test_bad_input_gets_one_line(error):
    call, message = ERRORS[error]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("elbo", [Trace_ELBO(), IWAE(2)])
def test_one_batch_is_drawn_to_prepare_a_pair(elbo):
    drawn = []

    def count(x):
        drawn.append(len(x))
        return torch.bernoulli(x)

    model, guide, _ = Case("vae", "diagonal").make()
    grey = torch.rand(7, 12, dtype=torch.float64)
    fit(model, guide, grey, elbo=elbo, epochs=1, batch_size=3, transform=count, progress=False)
    assert drawn == [3, 3, 3, 1]


class OwnRenyi(RenyiELBO):
    """A class of somebody else, which fit does not capture."""


def test_a_warning_points_at_the_line_that_called_fit():
    def averaged():
        model, guide, (x,) = Case("vae", "diagonal").make()
        fit(model, guide, x, elbo=OwnRenyi(num_particles=2), epochs=2, progress=False, capture=True)

    with pytest.warns(CaptureWarning) as caught:
        averaged()
    assert [warning.filename for warning in caught if warning.category is CaptureWarning] == [__file__]
