"""The state that a pair is trained in: where its parameters live, and which of its modules are in train mode."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyro.infer import ELBO, JitTrace_ELBO, JitTraceEnum_ELBO, JitTraceGraph_ELBO, JitTraceMeanField_ELBO
from torch import Tensor, nn

from ppl_vae.graphs.private import forget_traces
from ppl_vae.networks import RowTable
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import local_parameters, store_kept

COMPILED = (JitTrace_ELBO, JitTraceGraph_ELBO, JitTraceEnum_ELBO, JitTraceMeanField_ELBO)  # by Pyro, for one batch


@contextmanager
def parameters_for(elbo: ELBO, model: Program, guide: Program) -> Iterator[None]:
    """Keeps the parameters with each module, but in a store of this fit's own for Pyro's compiled ELBOs.

    Those read the store only, and it thaws what is frozen: it stays out of the optimizer and is frozen again after.
    """
    if not isinstance(elbo, COMPILED):
        with local_parameters(model, guide):
            yield
        return
    forget_traces(elbo)
    modules = (program for program in (model, guide) if isinstance(program, nn.Module))
    frozen = [leaf for module in modules for leaf in module.parameters() if not leaf.requires_grad]
    try:
        with store_kept():
            yield
    finally:
        for leaf in frozen:
            leaf.requires_grad_(False)


@contextmanager
def training(modules: list[nn.Module], of_the_pair: list[nn.Module], parameters: list[Tensor]) -> Iterator[None]:
    """Puts the modules that train in train mode, and them and all of the pair's own in eval mode afterwards.

    The gradients of tables are sparse meanwhile.
    """
    trained = {id(leaf) for leaf in parameters}
    training = [module for module in modules if any(id(leaf) in trained for leaf in module.parameters())]
    for module in of_the_pair:
        module.eval()
    for module in training:
        module.train()
    tables = [part for module in modules for part in module.modules() if isinstance(part, RowTable)]
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for table in tables:
            table.sparse = False
        for module in (*of_the_pair, *training):
            module.eval()
