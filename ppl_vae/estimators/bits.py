"""Unbiased gradients for independent Bernoulli latents that know more than the score function: DisARM and RELAX."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_vae.errors import InputError
from ppl_vae.estimators.base import LogWeightELBO
from ppl_vae.estimators.discrete import bit_logits, model_at
from ppl_vae.pairs.modules import Program


class DisARM(LogWeightELBO):
    """DisARM: antithetic pairs of bits, the noise integrated out (Dong, Mnih & Tucker 2020, eq. 6).

    Yin et al. 2020 found the same and call it U2G.

    With b = 1[u < s], b' = 1[1 - u < s] and s = sigmoid(logit), the gradient of a logit is
    (f(b) - f(b')) / 2 * (-1)^b' * 1[b != b'] * sigmoid(``|logit|``).

    Args:
        num_particles: evaluations of the model for each data point, two for each pair.
        max_plate_nesting: see :class:`LogWeightELBO`.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import DisARM
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=DisARM(num_particles=4), epochs=1, progress=False).is_bound
        True
    """

    fewest, paired = 2, True
    takes_weights = True

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns E[log w] and its surrogate; InputError where the latents are not independent bits of one site."""
        drawn_logits: list[Tensor] = []

        def antithetic(site: dict[str, Any]) -> Tensor:
            logits = bit_logits(_Only(site), "DisARM")
            drawn_logits.append(logits)
            noise = torch.rand_like(logits[: len(logits) // 2])
            return (torch.cat([noise, 1 - noise]) < logits.detach().sigmoid()).to(logits)

        run = self.run(model, guide, batch, draw=antithetic, check=lambda trace: bit_logits(trace, "DisARM"))
        (logits,) = drawn_logits
        weighed = run.weighed
        first, second = weighed.log_weights.detach().chunk(2)
        drawn = _value(run.guide)
        bits, others = drawn.chunk(2)
        half = logits.chunk(2)[0]
        slope = 0.5 * (first - second)[..., None] * (1 - 2 * others) * (bits != others) * half.detach().abs().sigmoid()
        surrogate = _over(slope * half, len(half)) + weighed.joint.mean(0)
        return run.log_weights.detach().mean(0), surrogate


class RELAX(LogWeightELBO):
    """RELAX: a learned control variate on the relaxed draw (Grathwohl et al. 2018, eq. 9).

    It is REBAR's plus a free network:

    c(z) = scale * log w(sigmoid(z / temperature)) + network(sigmoid(z / temperature)); scale, temperature and network
    go down the gradient of the squared length of the estimate, one step with each step of the pair.

    Args:
        num_particles: draws of z for each data point; each runs the model at the bits and at two relaxed values.
        temperature: of the relaxation at the start.
        network: maps (..., latents) to (..., 1); a perceptron of 100 tanh units where None.
        max_plate_nesting: see :class:`LogWeightELBO`.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.estimators import RELAX
        >>> from ppl_vae.guides import Amortized, Bernoulli
        >>> from ppl_vae.models import BernoulliVAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = BernoulliVAE(64, 8), Amortized(Bernoulli(8), 64)
        >>> fit(*pair, x, elbo=RELAX(), epochs=1, progress=False).is_bound
        True
    """

    learning_steps = 200
    takes_weights = True

    def __init__(
        self,
        num_particles: int | None = None,
        temperature: float = 0.5,
        network: nn.Module | None = None,
        max_plate_nesting: float = math.inf,
    ) -> None:
        super().__init__(num_particles, max_plate_nesting)
        if not temperature > 0:
            raise InputError(f"temperature is {temperature}; it must be above 0")
        self.temperature, self.network = temperature, network
        self._control: _Control | None = None

    def learned(self, model: Program | None, guide: Program | None, *batch: Any) -> "_Control":
        """Returns the control variate: its scale, its temperature and its network."""
        if self._control is None:
            if model is None or guide is None:
                raise InputError("RELAX has met no pair yet: call learned(model, guide, x)")
            with torch.no_grad():
                logits = bit_logits(self.propose(model, guide, batch, 1), "RELAX")
            network = self.network
            if network is None:
                from torchvision.ops import MLP

                network = MLP(logits.shape[-1], [100, 1], activation_layer=nn.Tanh)
                nn.init.zeros_(network[-2].weight)
                nn.init.zeros_(network[-2].bias)
            self._control = _Control(self.temperature, network).to(logits)
        return self._control

    def objective(self, model: Program, guide: Program, batch: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """Returns E[log w] and its surrogate; InputError where the latents are not independent bits of one site."""
        control = self.learned(model, guide, *batch)
        noise: list[Tensor] = []

        def draw(site: dict[str, Any]) -> Tensor:
            logits = bit_logits(_Only(site), "RELAX").detach()
            noise.append(_uniform(logits))
            return (logits + noise[0].logit() > 0).to(logits)

        run = self.run(model, guide, batch, draw=draw, check=lambda trace: bit_logits(trace, "RELAX"))
        logits, bits = bit_logits(run.guide, "RELAX"), _value(run.guide)
        count = len(run.joint)
        free = logits.detach().requires_grad_()
        with torch.enable_grad():
            relaxed, given_bits = _relaxed(free, noise[0], bits)
            both = torch.stack([relaxed, given_bits])
            first, second = self._values(control, model, run.guide, free, both, batch, count)
            weighed = run.weighed
            signal = weighed.log_weights.detach()
            score = bits - free.sigmoid()
            (slope,) = torch.autograd.grad((first - second).sum(), free, create_graph=self.adapting)
            weight = (signal - second).reshape(*free.shape[:-1], 1)
            estimate = weight * score + slope
            surrogate = _over(estimate.detach() * logits, count) + weighed.joint.mean(0)
            if self.adapting:
                surrogate = surrogate + self._lesson(control, estimate, surrogate)
        value = signal if weighed is run else run.log_weights.detach()
        return value.mean(0), surrogate

    def _values(
        self,
        control: "_Control",
        model: Program,
        guide_trace: Any,
        logits: Tensor,
        values: Tensor,
        batch: tuple[Any, ...],
        count: int,
    ) -> Tensor:
        """Returns the control variate c at both relaxed values, shape (2, particles, batch)."""
        soft = torch.sigmoid(values * control.log_temperature.neg().exp())
        controls = []
        for value in soft:
            _, joint = model_at(self, model, guide_trace, value, batch, count)
            proposed = (value * logits.detach() - softplus(logits.detach())).sum(-1).expand(joint.shape)
            free = control.network(value).squeeze(-1).expand(joint.shape)
            controls.append(control.scale * (joint - proposed) + free)
        return torch.stack(controls)

    def _lesson(self, control: "_Control", estimate: Tensor, like: Tensor) -> Tensor:
        """Returns a term of value zero whose gradient descends the estimate's squared length, for the control alone."""
        parameters = list(control.parameters())
        slopes = torch.autograd.grad(estimate.square().sum(), parameters, retain_graph=True, allow_unused=True)
        pairs = [(p, slope) for p, slope in zip(parameters, slopes, strict=True) if slope is not None]
        term = sum(((p - p.detach()) * slope.detach()).sum() for p, slope in pairs)
        return -term / len(like) * torch.ones_like(like)


class _Control(nn.Module):
    def __init__(self, temperature: float, network: nn.Module) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.network = network


class _Only:
    """A trace of one site, for use before the trace is whole."""

    def __init__(self, site: dict[str, Any]) -> None:
        self.nodes = {site["name"]: site}


def _uniform(like: Tensor) -> Tensor:
    return torch.rand_like(like).clamp(1e-6, 1 - 1e-6)


def _relaxed(logits: Tensor, noise: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """Draws z before the threshold, and another one given the same bits; both move with the logits."""
    z = logits + noise.logit()
    again, off = _uniform(logits), torch.sigmoid(-logits)  # off: where the noise gives 0
    uniform = torch.where(bits > 0, off + (1 - off) * again, off * again).clamp(1e-6, 1 - 1e-6)
    return z, logits + uniform.logit()


def _value(guide_trace: Any) -> Tensor:
    (site,) = (node for node in guide_trace.nodes.values() if node["type"] == "sample")
    return site["value"]


def _over(values: Tensor, count: int) -> Tensor:
    """Averages over particles what is summed over bits, shape (batch,)."""
    return values.sum(-1).reshape(count, -1).mean(0)
