"""What no graph holds is found out, said once, and runs as it is."""

import pyro
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO
from twice import OBSERVED, bits, both, pair

from ppl_vae import fit
from ppl_vae.guides import Amortized, Bernoulli, Diagonal, PerDatapoint
from ppl_vae.training.capture import CaptureWarning


class Branching(Amortized):
    """Control flow on values: no graph holds it."""

    def params(self, x, *given):
        found = super().params(x, *given)
        return found if float(found.sum()) > 0 else found * 1.0


def test_control_flow_on_values_is_found_out_and_said_once():
    def make():
        model, _, x = pair()
        torch.manual_seed(1)
        return model, Branching(Diagonal(2), OBSERVED, hidden=(8,)), x

    plain, captured = both(make, Trace_ELBO)
    assert torch.equal(captured[0], plain[0])
    (warned,) = captured[2]
    assert "the pair runs uncaptured: it can't be traced" in str(warned.message)


class OwnRenyi(RenyiELBO):
    """A class of somebody else, which may hold what no graph knows."""


def test_an_elbo_that_is_not_known_runs_uncaptured():
    plain, captured = both(pair, lambda: OwnRenyi(num_particles=2))
    assert torch.equal(captured[0], plain[0])
    (warned,) = captured[2]
    assert "OwnRenyi is not made of tensors alone" in str(warned.message)


class Averaging(Amortized):
    """A baseline that Pyro keeps in the parameter store and changes at each step."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            options = {"baseline": {"use_decaying_avg_baseline": True}}
            pyro.sample("z", self.posterior(x), infer=options)


def test_a_decaying_average_runs_uncaptured_and_is_averaged_once_a_step():
    def make():
        pyro.clear_param_store()
        model, _, x = bits()
        torch.manual_seed(1)
        return model, Averaging(Bernoulli(4), OBSERVED, hidden=(8,)), x

    plain, captured = both(make, TraceGraph_ELBO, epochs=10, batch_size=7)
    assert torch.equal(captured[0], plain[0])
    (warned,) = captured[2]
    assert "it changes '__baseline_avg_downstream_cost_z' in the parameter store" in str(warned.message)


@pytest.mark.parametrize(
    "many",
    [
        lambda x, h: h * (x[:, 0] > 0).nonzero().shape[0] / 7,
        lambda x, h: h + h[x[:, 0] > 0].sum(0),
        lambda x, h: h + torch.masked_select(h[:, 0], x[:, 0] > 0).sum(),
    ],
)
def test_sizes_that_depend_on_values_run_uncaptured(many):
    class Masking(Amortized):
        def params(self, x, *given):
            return many(x, super().params(x, *given))

    def make():
        model, _, x = pair()
        torch.manual_seed(1)
        return model, Masking(Diagonal(2), OBSERVED, hidden=(8,)), x

    plain, captured = both(make, Trace_ELBO, epochs=6)
    torch.testing.assert_close(captured[0], plain[0], rtol=0, atol=0)
    (warned,) = captured[2]
    assert "finds depends on values" in str(warned.message)


class Remembering(Amortized):
    """Keeps a mean of the data: as a buffer that is set anew, a plain tensor or a counter."""

    def __init__(self, what):
        super().__init__(Diagonal(2), OBSERVED, hidden=(8,))
        self.what, self.count, self.plain = what, 0, torch.zeros(OBSERVED)
        self.register_buffer("mean", torch.zeros(OBSERVED))

    def params(self, x, *given):
        name = {"buffer": "mean", "tensor": "plain"}.get(self.what)
        if name is not None:
            setattr(self, name, 0.5 * getattr(self, name) + 0.5 * x.detach().mean(-2))
            return super().params(x - getattr(self, name), *given)
        self.count += 1
        return super().params(x, *given) * min(1.0, 0.2 + self.count / 20)


@pytest.mark.parametrize(("what", "named"), [("buffer", "mean"), ("tensor", "plain"), ("counter", "count")])
def test_what_a_program_remembers_is_found_out_and_changed_once_a_step(what, named):
    def make():
        model, _, x = pair()
        torch.manual_seed(1)
        return model, Remembering(what), x

    plain, captured = both(make, Trace_ELBO, epochs=10, batch_size=7)
    assert torch.equal(captured[0], plain[0])
    (warned,) = captured[2]
    assert f"it sets Remembering.{named} anew at each run" in str(warned.message)


def test_a_table_with_sparse_gradients_runs_uncaptured():
    model, _, x = pair()
    with pytest.warns(CaptureWarning, match="a table has sparse gradients"):
        fit(model, PerDatapoint(Diagonal(2), 7), (x, torch.arange(7)), epochs=2, progress=False, capture=True)
