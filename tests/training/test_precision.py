"""Coarser products inside the networks: densities stay float32, training goes the same way, nothing is left behind."""

import pytest
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import nn
from zoo import COVERING, Case

from ppl_vae import fit
from ppl_vae.guides import Amortized, Diagonal, PerDatapoint
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.training.precision import computing_in, networks

CPU = torch.device("cpu")
OBSERVED = 12


def pair():
    torch.manual_seed(0)
    x = torch.ones(40, OBSERVED).mul(0.5).bernoulli()
    return VAE(OBSERVED, 2, hidden=(16, 16)), Amortized(Diagonal(2), OBSERVED, hidden=(16,)), x


@pytest.mark.parametrize("case", COVERING, ids=str)
def test_networks_are_no_programs_and_densities_stay_as_they_are(case: Case):
    model, guide, batch = case.make()
    for part in (model, guide):
        assert not any(isinstance(inner, PyroModule) for network in networks([part]) for inner in network.modules())
    model, guide = model.float(), guide.float()
    batch = tuple(part.float() if part.is_floating_point() else part for part in batch)
    with torch.no_grad(), computing_in("float32", [model, guide], CPU):
        shapes = [site["fn"].log_prob(site["value"]).dtype for site in sites(model, guide, batch)]
    if networks([model, guide]):
        with torch.no_grad(), computing_in("bf16", [model, guide], CPU):
            assert [site["fn"].log_prob(site["value"]).dtype for site in sites(model, guide, batch)] == shapes


def sites(model, guide, batch):
    guide_trace = poutine.trace(guide).get_trace(*batch)
    model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*batch)
    return [
        site
        for trace in (guide_trace, model_trace)
        for site in trace.nodes.values()
        if site["type"] == "sample" and "data" in [frame.name for frame in site["cond_indep_stack"]]
    ]


def test_inside_a_network_products_are_bfloat16():
    model, guide, x = pair()
    seen = []
    for network in networks([model, guide]):
        for layer in network:
            layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with computing_in("bf16", [model, guide], CPU):
        model(x), guide(x)
    assert seen
    assert set(seen) == {torch.bfloat16}
    seen.clear()
    model(x), guide(x)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("capture", [False, True])
def test_training_goes_the_same_way(capture):
    found = {}
    for precision in ("float32", "tf32", "bf16"):
        model, guide, x = pair()
        history = fit(
            model, guide, x, epochs=30, batch_size=20, seed=1, progress=False, capture=capture, precision=precision
        )
        assert all(leaf.dtype == leaf.grad.dtype == torch.float32 for leaf in model.parameters())
        found[precision] = torch.tensor(history.elbo)
    assert torch.equal(found["tf32"], found["float32"])  # on a CPU
    assert not torch.equal(found["bf16"], found["float32"])
    # 8 bits: each log-density is off by some 2^-8 of a logit's size, over 12 pixels and 40 rows far below 0.05 nats
    torch.testing.assert_close(found["bf16"], found["float32"], rtol=0, atol=0.05)


def test_captured_is_uncaptured():
    found = []
    for capture in (False, True):
        model, guide, x = pair()
        fit(model, guide, x, epochs=20, batch_size=16, seed=1, progress=False, capture=capture, precision="bf16")
        found.append(torch.cat([leaf.detach().flatten() for leaf in (*model.parameters(), *guide.parameters())]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


class Failing(nn.Module):
    def forward(self, x):
        raise RuntimeError("no")


def test_nothing_is_left_behind():
    network = nn.Sequential(nn.Linear(3, 3), Failing())
    with pytest.raises(RuntimeError, match="no"), computing_in("bf16", [network], CPU):
        network(torch.zeros(1, 3))
    assert not torch.is_autocast_enabled("cpu")
    assert not network._forward_hooks
    assert not network._forward_pre_hooks
    with computing_in("tf32", [], CPU):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_bad_input_gets_one_line():
    model, guide, x = pair()
    with pytest.raises(ValueError, match="precision is 'fp16'; expected float32, tf32, bf16"):
        fit(model, guide, x, precision="fp16")
    lone = LinearGaussian(OBSERVED, 2), PerDatapoint(Diagonal(2), 40)
    with pytest.raises(ValueError, match="there is no network"):
        fit(*lone, (x, torch.arange(40)), precision="bf16")
