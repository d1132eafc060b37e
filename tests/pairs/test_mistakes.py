"""What people get wrong with a pair, and the one line that tells them how to mend it."""

import subprocess
import sys
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch.optim import Adam

from ppl_vae import CaptureWarning, InputError, LogEvidence, bounds, compare, fit, no_guide
from ppl_vae.evidence import annealed
from ppl_vae.guides import Amortized, Diagonal, PerDatapoint
from ppl_vae.models import VAE, GaussianMixture

OBSERVED = 12


def bits():
    torch.manual_seed(0)
    return torch.full((9, OBSERVED), 0.3).bernoulli()


def pair():
    torch.manual_seed(0)
    return VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))


def normal(site="z", plate="data", observe=True, event=True):
    """A model and a guide with one mistake, or none."""

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x if observe else None)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(2))
        with pyro.plate(plate, len(x)):
            q = dist.Normal(loc + 0 * x, 1.0)
            pyro.sample(site, q.to_event(1) if event else q)

    return model, guide, torch.randn(6, 2)


def with_parameters(x):
    loc = pyro.param("loc", torch.zeros(OBSERVED))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=loc + z.sum(-1, keepdim=True)).to_event(1), obs=x)


def swapped():
    model, guide = pair()
    return guide, model, bits()


def grey():
    return *pair(), torch.rand(9, OBSERVED)


def narrow():
    return *pair(), bits()[:, :10]


def other_latents():
    return VAE(OBSERVED, 3, hidden=(8,)), pair()[1], bits()


PAIRS = {
    "swapped": (swapped, "the model observes nothing, the guide does: give the model first"),
    "nothing observed": (lambda: normal(observe=False), "the model observes nothing: give the data to a site by obs="),
    "another site": (lambda: normal(site="zz"), "the model's latent 'z' is missing in the guide: sample it there"),
    "no to_event": (lambda: normal(event=False), r"move .* into the event by .to_event\(1\)"),
    "grey images": (grey, r"Boolean\(\).* does not hold the data, .*transform them \(torch.bernoulli binarizes\)"),
    "narrow": (narrow, "a network is given 10 numbers a data point and takes 12: make its first layer as wide"),
    "other latents": (other_latents, "a network is given 2 numbers a data point and takes 3: make its first layer"),
    "long": (lambda: (*pair(), bits().long()), "numbers of type .* meet a network of type .*: convert the data"),
    "no index": (lambda: (pair()[0], PerDatapoint(Diagonal(2), 9), bits()), "needs the index of each data point as"),
}


@pytest.mark.parametrize("measure", [lambda *given: fit(*given, progress=False), bounds])
@pytest.mark.parametrize("mistake", PAIRS)
def test_a_pair_that_is_wrong_is_told_in_one_line(mistake, measure):
    make, message = PAIRS[mistake]
    with pytest.raises(ValueError, match=message) as caught:
        measure(*make())
    assert "\n" not in str(caught.value)


def test_what_pyro_adds_to_an_error_inside_a_program_is_left_out():
    class Flat(VAE):
        def likelihood(self, z, *given):
            return super().likelihood(z, *given).base_dist

    with pytest.raises(InputError, match=r"add \.to_event\(1\)$"):  # and no table of shapes below
        poutine.trace(Flat(OBSERVED, 2, hidden=(8,)))(bits())


def test_a_sound_pair_passes():
    fit(*normal(), epochs=1, progress=False)


def test_a_latent_that_is_summed_out_may_be_the_models_alone():
    @config_enumerate
    def model(x):
        loc = pyro.param("loc", torch.tensor([-1.0, 1.0]))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Categorical(torch.ones(2)))
            pyro.sample("x", dist.Normal(loc[z], 1.0), obs=x)

    fit(model, no_guide, torch.randn(8), elbo=TraceEnum_ELBO(max_plate_nesting=1), epochs=2, progress=False)


def test_validation_is_on_after_the_import():
    """zuko turns it off for all distributions when it is imported."""
    script = """
import sys, torch, pyro
for wanted in (None, False):
    if wanted is not None:
        pyro.enable_validation(wanted)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("ppl_vae", "zuko")]:
            del sys.modules[name]  # to be imported anew
    import ppl_vae.guides
    print(torch.distributions.Distribution._validate_args)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


model, guide = pair()
KINDS = {
    "array": (lambda: fit(model, guide, np.zeros((3, OBSERVED))), "the data hold a ndarray; expected a tensor"),
    "list": (lambda: fit(model, guide, [1, 2]), "the data hold a int; expected a tensor or a tuple"),
    "number": (lambda: fit(model, guide, torch.tensor(1.0)), "the data are one number; expected a row"),
    "elbo's name": (
        lambda: fit(model, guide, bits(), elbo="Trace_ELBO"),
        "elbo is 'Trace_ELBO'; expected a pyro.infer",
    ),
    "elbo's class": (lambda: fit(model, guide, bits(), elbo=Trace_ELBO), r"that is made, such as Trace_ELBO\(\)"),
    "optimizer's name": (lambda: fit(model, guide, bits(), optimizer="adam"), "optimizer is 'str'; expected a func"),
    "optimizer made": (
        lambda: fit(model, guide, bits(), optimizer=Adam(model.parameters())),
        "optimizer is 'Adam'; expected a function that makes one",
    ),
    "epochs": (lambda: fit(model, guide, bits(), epochs=1.5), "epochs is 1.5; a whole number from 1 on is needed"),
    "a class": (lambda: fit(VAE, guide, bits()), "the model is <class .*; expected a Pyro program: a made module"),
    "capture": (lambda: fit(model, guide, bits(), capture="yes"), "capture is 'yes'; expected 'auto', True, False"),
    "a function with parameters": (
        lambda: compare(with_parameters, {"a": guide}, bits(), test=bits()),
        "model is a function with parameters; compare freezes",
    ),
    "a guide that is a function": (
        lambda: compare(model, {"a": with_parameters}, bits(), test=bits()),
        "guide 'a' is a function; compare copies modules",
    ),
    "guides": (
        lambda: compare(model, [guide], bits(), test=bits()),
        "guides is a list; expected guides by name, such as",
    ),
    "particles": (lambda: bounds(model, guide, bits(), particles=-1), "particles is -1; a whole number from 2 on"),
    "latents": (lambda: Diagonal(0), "latent_dim is 0; Diagonal needs at least 1"),
    "guide not named": (lambda: annealed(model, None, (guide, bits())), "give the model, the guide, then the data"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_argument_of_another_kind_is_told_in_one_line(kind):
    call, message = KINDS[kind]
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_exact_evidence_is_captured_and_runs_in_svi(recwarn):
    x = torch.randn(30, 3)
    curves = []
    for capture in (False, True):
        torch.manual_seed(0)
        mixture = GaussianMixture(3, 2).initialize(x, 0)
        options = {"batch_size": 30, "epochs": 40, "progress": False, "capture": capture}
        curves.append(
            fit(
                mixture, no_guide, x, elbo=LogEvidence(), optimizer=lambda leaves: Adam(leaves, lr=0.01), **options
            ).elbo
        )
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    assert not [one for one in recwarn if one.category is CaptureWarning]
    mixture = GaussianMixture(3, 2).initialize(x, 0)
    svi = SVI(mixture, no_guide, pyro.optim.Adam({"lr": 0.01}), LogEvidence())
    assert svi.step(x) > svi.evaluate_loss(x)


def test_what_an_elbo_is_not_made_for_is_no_warning_unless_asked(recwarn):
    from pyro.infer import TraceGraph_ELBO

    fit(*pair(), bits(), elbo=TraceGraph_ELBO(), epochs=600, progress=False)
    assert not [one for one in recwarn if "uncaptured" in str(one.message)]


def functions(decoder):
    """A pair as in Pyro's tutorials: functions that register their networks."""

    def model(x):
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x):
        loc = pyro.param("loc", torch.zeros(2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc.expand(len(x), 2), 1.0).to_event(1))

    return model, guide


@pytest.mark.parametrize("capture", [True, False])
def test_a_network_that_the_parameter_store_does_not_hold_is_named(capture):
    decoder = torch.nn.Linear(2, OBSERVED)
    fit(*functions(decoder), bits(), epochs=2, capture=capture, progress=False)
    fit(*functions(decoder), bits(), epochs=2, capture=capture, progress=False)  # going on is no mistake
    with pytest.raises(ValueError, match=r"a network as 'decoder', but the parameter store holds another one"):
        fit(*functions(torch.nn.Linear(2, OBSERVED)), bits(), epochs=2, capture=capture, progress=False)
    pyro.clear_param_store()
    fit(*functions(torch.nn.Linear(2, OBSERVED)), bits(), epochs=2, capture=capture, progress=False)


def test_parameters_that_do_not_reach_the_bound_are_told():
    model, _, x = normal()

    def idle(x):
        pyro.param("idle", torch.zeros(2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))

    with pytest.raises(ValueError, match="no parameter reaches the ELBO: use them inside the programs"):
        fit(model, idle, x, epochs=1, progress=False)


OPTIMIZERS = {
    "clipping": (
        pyro.optim.SGD({"lr": 1e-4}, {"clip_norm": 1.0}),
        "does not clip gradients by pyro.optim's .*give fit clip=",
    ),
    "scheduler": (
        pyro.optim.ExponentialLR({"optimizer": Adam, "optim_args": {"lr": 0.1}, "gamma": 0.5}),
        "does not step the schedulers of pyro.optim: give it the optimizer and schedule=",
    ),
    "closure": (torch.optim.LBFGS, "LBFGS runs the objective many times a step"),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizers_that_fit_would_run_otherwise_are_refused(kind):
    optimizer, message = OPTIMIZERS[kind]
    with pytest.raises(ValueError, match=message):
        fit(*pair(), bits(), optimizer=optimizer, epochs=1, progress=False)


def test_an_optimizer_without_a_rate_of_that_name_trains():
    history = fit(*pair(), bits(), optimizer=pyro.optim.AdagradRMSProp({"eta": 0.01}), epochs=5, progress=False)
    assert history.elbo[-1] > history.elbo[0]


def test_an_auxiliary_site_that_is_no_latents_image_makes_no_bound():
    model, _, x = normal()

    def guide(x):
        loc = pyro.param("loc", torch.zeros(2))
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(0.0, 5.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Normal(loc + 0 * x, 1.0).to_event(1))

    assert not bounds(model, guide, x, particles=10).attrs["is_bound"]
    assert not fit(model, guide, x, epochs=1, progress=False).is_bound


def test_an_expanded_parameter_gets_memory_of_its_own():
    """A fused optimizer would write past it."""
    model, _, x = normal()
    wide = torch.nn.Parameter(torch.tensor(0.0).expand(6, 2))

    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loc = wide

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))

    fit(model, Wide(), x, epochs=3, progress=False)
    assert wide.is_contiguous()
    assert len(wide.unique()) == 12


@pytest.mark.parametrize("batch_size", [20, 5])
def test_the_elbo_of_a_subsampled_plate_is_told_per_data_point(batch_size):
    def model(x):
        with pyro.plate("data", 20, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        scale = pyro.param("scale", torch.tensor(0.7071), constraint=dist.constraints.positive)
        with pyro.plate("data", 20, subsample=x):
            pyro.sample("z", dist.Normal(x / 2, scale))

    x = torch.linspace(-1, 1, 20)
    exact = float(dist.Normal(0.0, 2**0.5).log_prob(x).mean())  # which this guide gives at every draw
    found = fit(model, guide, x, epochs=1, batch_size=batch_size, optimizer=partial(Adam, lr=1e-6), progress=False)
    assert found.elbo[0] == pytest.approx(exact, abs=1e-3)
