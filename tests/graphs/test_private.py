"""What is used of torch's and Pyro's private parts is still there, and still means the same."""

import linecache
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import (
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)
from pyro.nn import PyroModule, PyroParam
from torch import nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim import SGD

from ppl_vae import fit
from ppl_vae.graphs.private import (
    CONVOLUTION,
    OF_EVERY_MODULE,
    PYRO_PREFIX,
    REJECTING,
    TorchDispatchMode,
    backward_caught,
    changes_its_argument,
    compiled_by_inductor,
    give_its_own_parameters,
    hooks_of,
    hooks_of_module,
    hooks_of_tensor,
    interpreted_by_torchscript,
    map_tensors,
    numbers_left_as_tensors,
    pyro_state_of,
    settle_plates,
    sizes_noted_in_one_mode,
    sources_unkept,
    unvalidated,
    unwrapped_step,
    zeros_masked_unseen,
)
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE


class Scaled(PyroModule):
    """Has a parameter, which Pyro puts into the global store when it is run, unless it is local."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self):
        return self.scale


def test_a_module_gets_a_parameter_store_of_its_own():
    """It was made while parameters were global: without the store, Pyro itself fails."""
    pyro.clear_param_store()
    with pyro.settings.context(module_local_params=False):
        module = Scaled()
    with pyro.settings.context(module_local_params=True):
        with pytest.raises(AttributeError, match="param_state"):
            module()
        give_its_own_parameters(module)
        module()
        store = module._pyro_context.param_state
        give_its_own_parameters(module)  # which is kept
        assert module._pyro_context.param_state is store
    assert len(pyro.get_param_store()) == 0
    give_its_own_parameters(nn.Linear(2, 2))


def test_the_state_of_a_module_is_the_one_that_pyro_uses():
    with pyro.settings.context(module_local_params=True):
        module = Scaled()
        state = pyro_state_of(module)
        assert not state["used"]
        module()
        assert state["used"]
        assert set(state["param_state"]) == {"params", "constraints"}
    assert pyro_state_of(nn.Linear(2, 2)) == {}


def test_an_elbo_finds_its_plates():
    def model(x):
        with pyro.plate("rows", 3, dim=-2), pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(torch.zeros(3, len(x)), 1.0), obs=x.expand(3, -1))

    elbo = Trace_ELBO(num_particles=2, vectorize_particles=True)
    assert math.isinf(elbo.max_plate_nesting)
    settle_plates(elbo, model, lambda x: None, (torch.zeros(2),))
    assert elbo.max_plate_nesting == 2 + 1  # and the particles


def test_operations_that_write_to_an_argument_are_told_from_others():
    assert changes_its_argument(torch.ops.aten.normal_.default)
    assert not changes_its_argument(torch.ops.aten.bernoulli.default)


def test_tensors_are_changed_wherever_they_lie():
    found = map_tensors(lambda part: part + 1, (torch.zeros(()), [torch.ones(()), "a"], {"b": 1.5}))
    assert found == (torch.ones(()), [torch.full((), 2.0), "a"], {"b": 1.5})


def test_no_value_is_looked_at():
    """A distribution that was expanded while validation was on looks at values without it."""
    with pyro.validation_enabled(True):
        expanded = dist.Normal(0.0, 1.0).expand([2])
    nan = torch.full((2,), math.nan)
    with pyro.validation_enabled(False), pytest.raises(ValueError, match="to be within the support"):
        expanded.log_prob(nan)
    with unvalidated():
        assert expanded.log_prob(nan).isnan().all()
    with pytest.raises(ValueError, match="to be within the support"):
        expanded.log_prob(nan)


def test_categories_are_drawn_without_a_look_at_them():
    """The stand-in for ``one_hot`` is the one that distributions call, and gives the same."""
    q = torch.distributions.OneHotCategorical(torch.tensor([0.2, 0.3, 0.5]))
    torch.manual_seed(0)
    expected = q.sample((7,))
    torch.manual_seed(0)
    with unvalidated():
        assert torch.equal(q.sample((7,)), expected)
        outside = torch.nn.functional.one_hot(torch.tensor([5]), 3)  # torch's own refuses it
        assert torch.equal(outside, torch.zeros(1, 3, dtype=torch.long))
        assert torch.equal(torch.nn.functional.one_hot(torch.tensor([0, 2])), torch.tensor([[1, 0, 0], [0, 0, 1]]))


class Names(TorchDispatchMode):
    """Writes down each operation."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_operations_are_seen_by_name():
    with Names() as names:
        torch._standard_gamma(torch.ones(2))
        torch._sample_dirichlet(torch.ones(2))
        torch.poisson(torch.ones(2))
        torch.binomial(torch.ones(2), torch.full((2,), 0.5))
    drawn = [name for name in names.seen if name.startswith(REJECTING)]
    assert [name.split(".")[1] for name in drawn] == [name.split(".")[1] for name in REJECTING]


def test_convolutions_have_one_base_class():
    assert all(issubclass(kind, CONVOLUTION) for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d))
    assert not issubclass(nn.Linear, CONVOLUTION)


def test_what_is_pyros_in_a_module_is_told_by_its_name():
    class Own(PyroModule):
        def __init__(self):
            super().__init__()
            self.width = 3
            self.scale = PyroParam(torch.ones(()), constraint=dist.constraints.positive)

    beside = {name for name in vars(Own()) if name not in OF_EVERY_MODULE}
    assert {name for name in beside if not name.startswith(PYRO_PREFIX)} == {"width"}


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_an_elbo_keeps_its_densities_as_tensors(elbo):
    """Where Pyro reads them as numbers, the sum has none of a tensor's methods."""

    def model():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    (traces,) = elbo()._get_traces(model, lambda: pyro.sample("z", dist.Normal(0.5, 1.0)), (), {})
    assert not isinstance(elbo()._differentiable_loss_particle(*traces)[0], torch.Tensor)
    with numbers_left_as_tensors():
        assert isinstance(elbo()._differentiable_loss_particle(*traces)[0], torch.Tensor)


def test_enumeration_masks_zeros_unseen():
    assert not torch._C._get_tracing_state()
    values, mask = torch.tensor([[1.0, math.nan], [3.0, -math.inf]]), torch.tensor([True, False])
    with zeros_masked_unseen():
        assert torch._C._get_tracing_state()
        assert torch.equal(values.masked_select(mask), torch.tensor([1.0, 0.0, 3.0, 0.0]))
    assert torch.equal(values.masked_select(mask), torch.tensor([1.0, 3.0]))


def gaussian(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(pyro.param("a", torch.zeros(())), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def wide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(pyro.param("b", torch.zeros(())), 2.0))


@pytest.mark.parametrize(
    "elbo",
    [
        RenyiELBO(alpha=0.5, num_particles=2),
        RenyiELBO(alpha=0, num_particles=3, vectorize_particles=True, max_plate_nesting=1),
        ReweightedWakeSleep(num_particles=2, max_plate_nesting=1),
        TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1),
        TraceTMC_ELBO(max_plate_nesting=1),
    ],
    ids=lambda elbo: type(elbo).__name__,
)
def test_an_elbo_is_stopped_before_it_goes_backward(elbo):
    """What is caught has the gradients that Pyro would have taken."""
    pyro.clear_param_store()
    x, found = torch.tensor([0.5, 2.0]), []
    for catching in (False, True):
        pyro.set_rng_seed(0)
        gaussian(x), wide(x)
        leaves = [pyro.param(name).unconstrained() for name in "ab"]
        for leaf in leaves:
            leaf.grad = None
        if catching:
            with backward_caught() as caught:
                loss = elbo.loss_and_grads(gaussian, wide, x)
            assert all(leaf.grad is None for leaf in leaves)
            sum(caught).backward()
            if not isinstance(elbo, TraceTailAdaptive_ELBO):  # it tells no loss
                first = loss[0] if isinstance(loss, tuple) else loss
                assert isinstance(first, torch.Tensor)
        else:
            elbo.loss_and_grads(gaussian, wide, x)
        found.append([leaf.grad for leaf in leaves])
    assert any(part is not None and part.any() for part in found[0])
    for one, other in zip(*found, strict=True):
        assert one is other is None or torch.equal(one, other)
    pyro.clear_param_store()


@pytest.mark.parametrize("engine", [interpreted_by_torchscript, compiled_by_inductor])
def test_an_engine_runs_a_graph_with_the_same_random_numbers(engine):
    graph = make_fx(lambda x: (x + torch.randn(3),))(torch.zeros(3))
    run = engine(graph, (torch.zeros(3),))
    torch.manual_seed(0)
    (first,) = run(torch.ones(3))
    torch.manual_seed(0)
    assert torch.equal(first, torch.ones(3) + torch.randn(3))


def test_what_was_compiled_is_found_on_the_disk_again():
    arguments = (torch.zeros(3), torch.ones(3))
    run = make_fx(lambda x, y: ((x * y + 2).exp().sum(),))(*arguments)
    compiled_by_inductor(run, arguments)
    found = counters["inductor"]["fxgraph_cache_hit"]
    compiled_by_inductor(run, arguments)
    assert counters["inductor"]["fxgraph_cache_hit"] == found + 1


def test_the_step_of_an_optimizer_and_its_hooks():
    leaf = torch.ones(2, requires_grad=True)
    optimizer = SGD([leaf], lr=0.5)
    leaf.grad = torch.ones(2)
    unwrapped_step(optimizer)()
    assert leaf.tolist() == [0.5, 0.5]
    assert hooks_of(optimizer) == []
    optimizer.register_step_post_hook(print)
    optimizer.register_step_pre_hook(repr)
    assert set(hooks_of(optimizer)) == {print, repr}


def test_hooks_of_modules_and_tensors():
    layer, hooks = nn.Linear(2, 2), [lambda *_: None for _ in range(6)]
    layer.register_forward_pre_hook(hooks[0])
    layer.register_forward_hook(hooks[1])
    layer.register_full_backward_pre_hook(hooks[2])
    layer.register_full_backward_hook(hooks[3])
    layer.weight.register_hook(hooks[4])
    layer.weight.register_post_accumulate_grad_hook(hooks[5])
    assert hooks_of_module(layer) == hooks[:4]
    assert hooks_of_tensor(layer.weight) == ([hooks[4]], [hooks[5]])
    assert hooks_of_tensor(layer.bias) == ([], [])


def test_sizes_are_noted_in_one_mode():
    with sizes_noted_in_one_mode():
        graph = make_fx(lambda x: (x.exp() + 1).sum(0))(torch.ones(3, 2))
    noted = [node.meta["val"] for node in graph.graph.nodes if node.op != "output"]
    assert [tuple(value.shape) for value in noted] == [(3, 2), (3, 2), (3, 2), (2,)]
    assert all(isinstance(value.fake_mode, FakeTensorMode) for value in noted)
    assert len({id(value.fake_mode) for value in noted}) == 1


@pytest.mark.parametrize("kind", [JitTrace_ELBO, JitTraceGraph_ELBO, JitTraceEnum_ELBO, JitTraceMeanField_ELBO])
@pytest.mark.filterwarnings("ignore")  # of torch.jit
def test_an_elbo_of_pyro_that_is_compiled_trains_one_pair_after_the_other(kind):
    elbo, x = kind(max_plate_nesting=1), torch.randn(6, 2)
    for width in (3, 4):
        model, guide = VAE(2, width, hidden=(4,), likelihood="gaussian"), Amortized(Diagonal(width), 2, hidden=(4,))
        before = [leaf.detach().clone() for leaf in guide.parameters()]
        fit(model, guide, x, elbo=elbo, epochs=2, progress=False)
        assert not any(map(torch.equal, before, guide.parameters()))


def test_the_source_of_a_graph_is_kept_for_good_unless_it_is_asked_for():
    def sources():
        make_fx(torch.sin)(torch.ones(2))
        return sum(name.startswith("<eval_with_key>") for name in linecache.cache)

    before = sources()
    assert sources() == before + 1
    with sources_unkept():
        assert sources() == before + 1
    assert sources() == before + 2
    model, guide, x = VAE(2, 2, hidden=(4,)), Amortized(Diagonal(2), 2, hidden=(4,)), torch.ones(6, 2)
    fit(model, guide, x, capture=True, epochs=2, progress=False)
    assert sources() == before + 3
