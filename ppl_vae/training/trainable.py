"""What can be trained of a pair, and checks of it while it is trained."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.pairs.checks import NOTHING_REACHED
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.restore import is_finite
from ppl_vae.training.health import TrainingWarning, unreached
from ppl_vae.training.warning import warn_caller


@dataclass(frozen=True)
class Trainable:
    """What an optimizer and an ELBO need to know of a pair.

    Attributes:
        parameters: the leaves that require a gradient.
        names: theirs.
        guide: the guide, as an ELBO is to get it.
        is_bound: whether a step's objective bounds the evidence.
        weighted: whether sites have weights of their own, so that a step's objective is no ELBO.
        sites: those of the leaves that are parameter sites, by name.
        others: those that the parameter store holds where ``pyro.module`` registers a network, and are not that
            network's own.
        unregistered: those of a module whose methods the pair are, which are no parameter sites.
        full_size: the data points that a step's ELBO stands for, where a plate subsamples them.
        whole: whether the data share a latent, so that the ELBO is one of all of them together.
        nesting: how many plates of the pair's own are inside each other.
        encoder: those of the leaves that are the guide's alone, by name; empty where the estimator does not run it.
        unreached: the names of them, where the first step has shown that no gradient reaches any.
    """

    parameters: list[Tensor]
    names: list[str]
    guide: Program
    is_bound: bool
    weighted: bool
    sites: dict[str, Tensor]
    others: dict[str, list[Tensor]]
    unregistered: dict[str, nn.Parameter]
    full_size: int | None
    whole: bool = False
    nesting: int = 0
    encoder: dict[str, Tensor] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)

    def require_gradients(self) -> None:
        """Refuses, after the first step, a pair of which it reached nothing, or another network than the optimizer's.

        A warning where it reached what the optimizer does not have, or nothing of the guide.
        """
        for name, leaves in self.others.items():
            if all(leaf.grad is None for leaf in leaves):
                raise InputError(
                    f"pyro.module registers a network as {name!r}, but the parameter store holds another one under "
                    "this name, which would be trained instead: call pyro.clear_param_store() after making it anew"
                )
        if all(leaf.grad is None for leaf in self.parameters):
            raise InputError(NOTHING_REACHED)
        untrained = [name for name, leaf in self.unregistered.items() if leaf.grad is not None]
        if untrained:
            warn_caller(
                f"used, but not trained: {', '.join(untrained)}, which no pyro.module registers (requires_grad_(False) "
                "says that this is meant)"
            )
        if self.encoder and all(leaf.grad is None for leaf in self.encoder.values()):
            self.unreached.extend(self.encoder)
            warn_caller(unreached(self.unreached), TrainingWarning)

    def require_finite(self, epoch: int) -> None:
        """Raises an InputError where a step has made a parameter NaN or infinite."""
        bad = [name for name, leaf in zip(self.names, self.parameters, strict=True) if not is_finite(leaf)]
        if bad:
            raise InputError(
                f"{bad[0]} became NaN or infinite in epoch {epoch} ({len(bad)} of {len(self.names)} parameters did), "
                "which are now those at its beginning: lower the learning rate, or look for a square root, a logarithm "
                "or a scale near 0"
            )
