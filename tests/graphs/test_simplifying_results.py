"""A graph without its first results: what these alone need is gone, and random numbers come as before."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from ppl_vae.graphs.simplifying import without_first


def test_it_computes_what_is_left_and_draws_what_was_drawn():
    def run(x):
        noise = torch.randn(3)
        return [x.exp() + noise, torch.randn(3), x * 2]

    whole = make_fx(run)(torch.ones(3))
    part = without_first(whole, 1)
    found = []
    for graph in (whole, part):
        torch.manual_seed(0)
        found.append((graph(torch.arange(3.0))[-2:], torch.rand(1)))
    (results, after), (fewer, then) = found
    assert all(map(torch.equal, results, fewer))
    assert torch.equal(after, then)
    operations = [node.target for node in part.graph.nodes if node.op == "call_function"]
    assert torch.ops.aten.exp.default not in operations
    assert torch.ops.aten.exp.default in [node.target for node in whole.graph.nodes]
    assert without_first(whole, 0).code == whole.code
