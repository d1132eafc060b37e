"""Gradients as the optimizer gets them."""

from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam

from ppl_vae import InputError, fit
from ppl_vae.training.optimizers import make_optimizers


class _Mixing(nn.Module):
    """A factor model whose gradients come spread from one number (offset) and transposed (weight)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(6, 3, generator=torch.Generator().manual_seed(0)))
        self.offset = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> None:
        pyro.module("mixing", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            mean = torch.einsum("bi,oi->bo", z, self.weight)
            pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=x)
        pyro.factor("slope", -self.offset.sum())


def _guide(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x[:, :3] / 2, 0.5).to_event(1))


class _Entangled(nn.Module):
    """Has gradients that are another parameter, its own buffer, and one tensor for two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor([0.5, 1.0])), nn.Parameter(torch.tensor([1.0, -1.0]))
        self.c, self.d = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
        self.e = nn.Parameter(torch.zeros(2))
        self.register_buffer("weight", torch.tensor([0.3, 2.0]))

    def forward(self, x: Tensor) -> None:
        pyro.module("entangled", self)
        pyro.factor("product", -(self.a * self.b).sum() - (self.e * self.weight).sum())
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.c + self.d, 1.0).to_event(1), obs=x)


class _Clipped(SGD):
    """Clips the gradients in place, as many loops do."""

    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], 1.0)
        return super().step(closure)


@pytest.mark.parametrize("optimizer", [SGD, partial(SGD, foreach=False), _Clipped, Adam])
@pytest.mark.parametrize("capture", [True, "compile"])
def test_each_gradient_has_memory_of_its_own(capture, optimizer):
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
    ends = []
    for mode in (False, capture):
        pyro.clear_param_store()
        model = _Entangled()
        options = {"optimizer": partial(optimizer, lr=0.05), "epochs": 20, "batch_size": 5}
        fit(model, lambda x: None, x, capture=mode, seed=0, progress=False, **options)
        assert model.weight.tolist() == pytest.approx([0.3, 2.0])
        ends.append([leaf.detach() for leaf in model.parameters()])
    for found, expected in zip(*reversed(ends), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "optimizer", [partial(Adam, fused=True), partial(SGD, fused=True), partial(Adagrad, fused=True)]
)
@pytest.mark.parametrize("capture", [True, "compile"])
def test_a_graph_gives_each_parameter_its_own_gradient(capture, optimizer):
    """torch's fused optimizers read a gradient in the order of its memory, whatever its strides say."""
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    ends = []
    for mode in (False, capture):
        pyro.clear_param_store()
        model = _Mixing()
        fit(
            model,
            _guide,
            x,
            optimizer=partial(optimizer, lr=0.01),
            epochs=6,
            batch_size=50,
            capture=mode,
            seed=0,
            progress=False,
        )
        ends.append((model.weight.detach(), model.offset.detach()))
    for found, expected in zip(*reversed(ends), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_parameter_with_gaps_in_memory_is_not_fused():
    """A fused optimizer would read the numbers between."""
    whole, gaps = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.arange(4.0)[::2])
    assert make_optimizers(Adam, [whole], [])[0].param_groups[0]["fused"]
    for leaves in ([gaps], [whole, gaps]):
        assert not make_optimizers(Adam, leaves, [])[0].param_groups[0]["fused"]
    assert not make_optimizers(Adagrad, [whole], [])[0].param_groups[0]["fused"]  # which has its memory from the start


def test_terms_alone_are_refused_in_minibatches():
    model = _Entangled()

    def terms_alone(x: Tensor) -> None:
        pyro.module("entangled", model)
        pyro.factor("product", -(model.a * model.b).sum())

    with pytest.raises(InputError, match="all 6 data points share the term 'product', but a batch is 2 of them"):
        fit(terms_alone, lambda x: None, torch.zeros(6, 2), batch_size=2, progress=False)
