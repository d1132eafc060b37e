"""Gradients by the score: d/dphi E[f(z)] = E[f(z) d log q(z) / d phi], for any q, at the price of variance."""

import math
from typing import Any

import torch
from pyro.infer import TraceGraph_ELBO
from torch import Tensor, nn

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO, detached
from ppl_vae.estimators.pathwise import log_mean
from ppl_vae.estimators.requirements import require_not_reparameterized
from ppl_vae.pairs.modules import Program


class ScoreFunction(TraceGraph_ELBO):
    """Pyro's ``TraceGraph_ELBO`` for draws without a gradient; it refuses a guide that Pyro would reparameterize.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import ScoreFunction
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64, reparameterized=False)
        >>> fit(*pair, x, elbo=ScoreFunction(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    def _get_trace(self, model: Program, guide: Program, args: Any, kwargs: Any) -> Any:
        model_trace, guide_trace = super()._get_trace(model, guide, args, kwargs)
        require_not_reparameterized(guide_trace, "score-function")
        return model_trace, guide_trace


class Reinforce(LogWeightELBO):
    """The score-function gradient, log w times the score of q, for any guide (Williams 1992).

    See also Ranganath, Gerrish & Blei 2014. Draws are held constant.

    Subclasses subtract a baseline that does not depend on the draw, which leaves the mean alone.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import Reinforce
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=Reinforce(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    takes_weights = True

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns E[log w] and its surrogate; the direct gradient of -log q, of mean zero, is left out, as in Pyro."""
        run = self.run(model, guide, batch, draw=detached)
        weighed = run.weighed
        signal = weighed.log_weights.detach()
        surrogate = ((signal - self.baseline(signal, batch).detach()) * run.proposed + weighed.joint).mean(0)
        value = signal if weighed is run else run.log_weights.detach()
        return value.mean(0), surrogate + self.lesson(signal, batch)

    def baseline(self, signal: Tensor, batch: tuple[Any, ...]) -> Tensor:
        """Returns what to subtract from log w of shape (particles, batch), in a shape that broadcasts to it."""
        return torch.zeros_like(signal[:1, :1])

    def lesson(self, signal: Tensor, batch: tuple[Any, ...]) -> Tensor:
        """Returns what the estimator learns from this batch after its baseline is used; added to the surrogate."""
        return torch.zeros_like(signal[0])


class RunningMean(Reinforce):
    """The score function with a decaying mean of log w as its baseline: one number, so any batch size works.

    Args:
        num_particles: draws of z for each data point.
        decay: how much of the mean stays at each step.
        max_plate_nesting: see :class:`LogWeightELBO`.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import RunningMean
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=RunningMean(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    def __init__(
        self, num_particles: int | None = None, decay: float = 0.9, max_plate_nesting: float = math.inf
    ) -> None:
        super().__init__(num_particles, max_plate_nesting)
        if not 0 <= decay < 1:
            raise InputError(f"decay is {decay}; it must be at least 0 and below 1")
        self.decay = decay
        self.learning_steps = max(1, round(5 / (1 - decay)))  # exp(-5) of the start is left
        self.state = [torch.zeros(2)]  # the decaying sums of log w and of 1

    def learned(self, model: Program | None, guide: Program | None, *batch: Any) -> None:
        """Moves what it remembers to the batch's device and type; there is no network."""
        if batch:
            self._on(batch[0] if batch[0].is_floating_point() else torch.zeros((), device=batch[0].device))

    def baseline(self, signal: Tensor, batch: tuple[Any, ...]) -> Tensor:
        """Returns the mean so far, its start at zero corrected for (as Adam does)."""
        total, weight = self._on(signal)
        return (total / weight.clamp(min=1e-12)).expand_as(signal[:1, :1])

    def lesson(self, signal: Tensor, batch: tuple[Any, ...]) -> Tensor:
        """Moves the mean towards that of this batch."""
        if self.adapting:
            mean = signal.mean()
            self._on(signal).mul_(self.decay).add_((1 - self.decay) * torch.stack([mean, torch.ones_like(mean)]))
        return super().lesson(signal, batch)

    def _on(self, like: Tensor) -> Tensor:
        if self.state[0].device != like.device or self.state[0].dtype != like.dtype:
            self.state[0] = self.state[0].to(like)
        return self.state[0]


class NeuralBaseline(Reinforce):
    """The score function with a network of x as its baseline (Mnih & Gregor 2014, without their other two parts).

    :func:`ppl_vae.fit` and plain ``SVI`` train it with the pair, by least squares. ``elbo(model, guide)`` as a module
    holds the parameters of the pair alone: give its optimizer ``elbo.network.parameters()`` too.

    Args:
        num_particles: draws of z for each data point.
        network: maps the first argument, (batch, ...), to (batch, 1); a perceptron of 100 tanh units where None.
        max_plate_nesting: see :class:`LogWeightELBO`.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import NeuralBaseline
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=NeuralBaseline(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    learning_steps = 1000

    def __init__(
        self,
        num_particles: int | None = None,
        network: nn.Module | None = None,
        max_plate_nesting: float = math.inf,
    ) -> None:
        super().__init__(num_particles, max_plate_nesting)
        self.network = network

    def learned(self, model: Program | None, guide: Program | None, *batch: Any) -> nn.Module:
        """Returns the network, made for this batch where there is none yet."""
        if self.network is None:
            from torchvision.ops import MLP

            width = math.prod(batch[0].shape[1:])
            flat = nn.Flatten() if batch[0].dim() > 1 else nn.Unflatten(0, (-1, 1))
            self.network = nn.Sequential(flat, MLP(width, [100, 1], activation_layer=nn.Tanh)).to(batch[0])
        return self.network

    def baseline(self, signal: Tensor, batch: tuple[Any, ...]) -> Tensor:
        """Returns the network's output, one for all particles of a data point."""
        if signal.shape[1] != len(batch[0]):
            raise InputError(
                "NeuralBaseline is a number for each data point, but all the data share a latent and have one bound: "
                "take RunningMean or LeaveOneOut"
            )
        return self.learned(None, None, *batch)(batch[0]).reshape(1, -1)

    def lesson(self, signal: Tensor, batch: tuple[Any, ...]) -> Tensor:
        """Returns minus half the squared error, whose value is taken off again: the bound is not changed by it."""
        if not self.adapting:
            return super().lesson(signal, batch)
        return -0.5 * (signal - self.baseline(signal, batch)).square().mean(0)


class LeaveOneOut(Reinforce):
    """RLOO: the score function, each particle's baseline the mean of the others (Kool, van Hoof & Welling 2019).

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import LeaveOneOut
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=LeaveOneOut(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    fewest = 2

    def baseline(self, signal: Tensor, batch: tuple[Any, ...]) -> Tensor:
        """Returns the mean of the other particles' log w, shape (particles, batch)."""
        return (signal.sum(0) - signal) / (len(signal) - 1)


class VIMCO(LogWeightELBO):
    """VIMCO: the importance-weighted bound by leave-one-out scores (Mnih & Rezende 2016, eq. 7 to 10).

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import VIMCO
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=VIMCO(num_particles=5), epochs=1, progress=False).is_bound
        True
    """

    fewest = 2

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns the bound and its surrogate.

        Each particle is credited with what it adds to the bound: against the bound with its weight at the others'
        geometric mean.
        """
        run = self.run(model, guide, batch, draw=detached)
        bound = log_mean(run.log_weights)
        weights = run.log_weights.detach()
        count = len(weights)
        others = (weights.sum(0) - weights) / (count - 1)
        swapped = weights.expand(count, *weights.shape).clone()  # [left out, particle, data point]
        index = torch.arange(count, device=weights.device)
        swapped[index, index] = others
        signal = bound.detach() - (swapped.logsumexp(1) - math.log(count))
        return bound.detach(), bound + (signal * run.proposed).sum(0)
