"""Many gradients of one batch, each with its own random numbers.

The program's own run gives one gradient. Where there are many to draw, the run is recorded as a graph of tensor
operations, which ``torch.func.vmap`` maps over draws; nothing is assumed of layers, plates or terms. The graph is
compared with the program on the same random numbers at the start and after every request, and left where they differ.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyro
import torch
from pyro.infer import ELBO
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_map

from ppl_vae.errors import InputError
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.estimators.tensor_only import bound_and_gradients, particles_apart, tensor_only
from ppl_vae.graphs.mapped import MappedGraph
from ppl_vae.graphs.noise import OtherNoise, Replayed, generators
from ppl_vae.graphs.tracing import agree
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.mistakes import require_sound
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.restore import local_parameters, modules_kept, random_state_kept, store_kept, tensors_kept
from ppl_vae.pairs.watching import watched
from ppl_vae.training.modes import COMPILED
from ppl_vae.training.preparation import first_run

_MANY = 100  # draws that earn the recording back
_CHECKS = 32  # draws that are compared before the graph is used; one more for each request
_CHECKS_OF_EQUALS = 3  # where nothing is drawn, as by enumeration, whose runs are long
# Of a parameter's gradient: what the order of sums does. ReweightedWakeSleep has weights of the whole batch, whose
# rounding in float32 is above it in some draws (6e-4 for 100 images; 1e-12 in float64): it is drawn one by one then.
_TOLERANCE = 1e-4
_NUMBERS = 2**25  # in what the graph makes in all the draws that it is mapped over at once


class PerDraw:
    """Draws the gradient of minus the bound, summed over the batch, with parameters as they are.

    Args:
        elbo: the estimator, which learns nothing while it is drawn from.
        model: the model.
        guide: its guide, as the ELBO gets it.
        batch: the arguments of both.
        leaves: the parameters, whose ``grad`` is written to.
        names: of the parameters.

    Attributes:
        together: whether the last draws were made by the graph.
        reason: why they were not, empty where they were or where too few were asked for.
    """

    def __init__(
        self, elbo: ELBO, model: Program, guide: Program, batch: tuple[Any, ...], leaves: list[Tensor], names: list[str]
    ) -> None:
        self.elbo, self.leaves, self.names = elbo, leaves, names
        self.model, self.guide, self.batch = model, guide, batch
        self.size = sum(leaf.numel() for leaf in leaves)
        self.together, self.reason = False, ""
        self._mapped: MappedGraph | None = None
        self._at_once = 1
        self._one_by_one = particles_apart(elbo)
        self._single = elbo
        if self._one_by_one > 1:
            self._single = copy.copy(elbo)
            self._single.num_particles = 1

    def __call__(self, draws: int, advance: Callable[[int], object] = lambda count: None) -> Tensor:
        """Draws so many gradients, shape (draws, size); ``advance`` is told how many were just drawn."""
        if draws >= _MANY and self._mapped is None and not self.reason:
            self._record()
        mapped = self._mapped if draws >= _MANY else None
        self.together = mapped is not None
        if mapped is not None:
            drawn, total = [], draws * self._one_by_one
            for start in range(0, total, self._at_once):
                gradients, noise = mapped(min(self._at_once, total - start))
                drawn.append(torch.cat([part.reshape(len(part), -1) for part in gradients], 1))
                advance(len(drawn[-1]) // self._one_by_one)
            self._compare(gradients, noise, [len(drawn[-1]) - 1])
            if not self.reason:
                return torch.cat(drawn).unflatten(0, (draws, -1)).mean(1)
            self.together = False
        one_by_one = []
        for _ in range(draws):
            one_by_one.append(torch.cat([part.flatten() for part in self._run(self.elbo)]))
            advance(1)
        return torch.stack(one_by_one)

    def _run(self, elbo: ELBO) -> list[Tensor]:
        """Computes one gradient by the program."""
        for leaf in self.leaves:
            leaf.grad = None
        elbo.loss_and_grads(self.model, self.guide, *self.batch)
        return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.to_dense() for leaf in self.leaves]

    def _record(self) -> None:
        """Makes the graph, or says why there is none."""
        with random_state_kept():  # a pair that is refused is refused here
            _, self.reason, _ = watched(lambda: self._run(self._single), (self.model, self.guide), self.leaves)
        if self.reason:
            return
        try:
            with random_state_kept():
                self._mapped = MappedGraph(self._objective(), self.leaves[0].device)
                self._at_once = max(_CHECKS, _NUMBERS // (self._mapped.numbers + self.size))
                checks = _CHECKS if self._mapped.draws else _CHECKS_OF_EQUALS
                self._compare(*self._mapped(checks), range(checks))
        except Exception as error:  # whatever a program does that a graph can't
            self.reason, self._mapped = str(error).strip().partition("\n")[0] or type(error).__name__, None

    def _objective(self) -> Callable[[], list[Tensor]]:
        """Returns the program's run as a function of nothing, of tensors alone."""
        objective = tensor_only(self._single)
        if objective is None:
            raise InputError(f"{type(self._single).__name__} is not made of tensors alone")

        def run() -> list[Tensor]:
            _, gradients = bound_and_gradients(objective, self.model, self.guide, self.batch, self.leaves)
            pairs = zip(gradients, self.leaves, strict=True)
            return [torch.zeros_like(leaf) if part is None else part for part, leaf in pairs]

        return run

    def _compare(self, gradients: list[Tensor], noise: list[Any], which: Iterable[int]) -> None:
        """Gives the graph up where the program, run on the noise of some draws, has other gradients."""
        outside = generators()
        for draw in which:
            recorded = tree_map(lambda part, at=draw: part[at], noise)
            try:
                with Replayed(recorded):
                    expected = self._run(self._single)
            except OtherNoise:
                self.reason = "it draws other random numbers than before"
                break
            if not agree(expected, [part[draw] for part in gradients], _TOLERANCE):
                self.reason = "its gradients are others than those of its graph"
                break
        if outside != generators():
            self.reason = "it draws from a generator of Python or numpy"
        if self.reason:
            self._mapped = None


@contextmanager
def drawing(model: Program, guide: Program, elbo: ELBO, batch: tuple[Any, ...]) -> Iterator[PerDraw]:
    """Readies a pair for its gradients, with a copy of the ELBO; what its runs change is put back afterwards.

    The parameters are the model's in its order, then the guide's, then those of ``pyro.param``.
    """
    if isinstance(elbo, COMPILED):  # it replays what it saw first, whose random numbers no graph can be told
        plain = type(elbo).__name__.removeprefix("Jit")
        raise InputError(
            f"{type(elbo).__name__} replays a trace of its own: take {plain}, whose gradients are the same"
        )
    own_elbo = copy.deepcopy(elbo)
    require_sound(model, guide if getattr(elbo, "runs_guide", True) else None, batch)
    programs = {"model": model, "guide": guide}
    parts = {name: program for name, program in programs.items() if isinstance(program, nn.Module)}
    with_gradients = torch.inference_mode(False), torch.enable_grad()  # whatever the caller has turned off
    with local_parameters(model, guide), pyro.validation_enabled(False), ExitStack() as kept:
        for mode in with_gradients:
            kept.enter_context(mode)
        kept.enter_context(buffers_kept(model, guide))
        with explained(model, guide, batch):
            ready = first_run(own_elbo, model, guide, None, batch)
        leaves = ready.parameters
        known = {id(leaf): f"{name}.{key}" for name, part in parts.items() for key, leaf in part.named_parameters()}
        order = {key: number for number, key in enumerate(known)}
        leaves.sort(key=lambda leaf: order.get(id(leaf), len(order)))
        known = {id(leaf): name for name, leaf in ready.sites.items()} | known
        kept.enter_context(modules_kept(modules_of(model, guide)))
        kept.enter_context(store_kept())
        before = [leaf.grad for leaf in leaves]
        try:
            yield PerDraw(own_elbo, model, ready.guide, batch, leaves, [known[id(leaf)] for leaf in leaves])
        finally:
            for leaf, grad in zip(leaves, before, strict=True):
                leaf.grad = grad


@contextmanager
def buffers_kept(*programs: Program) -> Iterator[None]:
    """Puts back the buffers that runs move, those of batch normalization, say."""
    buffers = (buffer for module in modules_of(*programs) for buffer in module.buffers())
    with tensors_kept([buffer for buffer in buffers if not is_lazy(buffer)]):
        yield


def held(elbo: ELBO) -> None:
    """Keeps what the estimator knows as it is from now on."""
    if isinstance(elbo, LogWeightELBO):
        elbo.adapting = False
