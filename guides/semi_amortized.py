"""An encoder's parameters, refined by a few gradient steps for each data point."""

import torch
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.guides.amortized import Amortized
from ppl_vae.programs import FamilyGuide, LatentVariableModel


class SemiAmortized(FamilyGuide):
    """A guide that refines an encoder's parameters by a few gradient steps for each data point (Kim et al. 2018).

    q(z | x) = family(encoder(x) + a few steps up that data point's ELBO).

    In training the gradient goes through the steps, so the encoder learns where to start. Each step's gradient is
    scaled to a length of at most 1 for each data point.

    Args:
        start: the amortized guide whose parameters are refined; its family must be reparameterized.
        model: whose ELBO the steps climb; it is not registered as a part of the guide.
        steps: the number of gradient steps.
        lr: the length of the longest step.
        particles: draws of z for each step's gradient.

    Raises:
        InputError: in use, for a family without reparameterized draws.

    Examples:
        >>> import torch
        >>> from ppl_vae.guides import Amortized, Diagonal, SemiAmortized
        >>> from ppl_vae.models import VAE
        >>> model, encoder = VAE(observed_dim=64, latent_dim=2), Amortized(Diagonal(2), observed_dim=64)
        >>> SemiAmortized(encoder, model, steps=3)(torch.ones(5, 64)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self, start: Amortized, model: LatentVariableModel, steps: int = 5, lr: float = 0.1, particles: int = 4
    ) -> None:
        super().__init__()
        self.start = start
        self.family = start.family
        self.steps, self.lr, self.particles = steps, lr, particles
        self._model = (model,)  # in a tuple, so that its parameters are not registered twice

    def params(self, x: Tensor, *given: Tensor) -> Tensor:
        """Returns the refined parameters, shape (batch, num_params)."""
        learning = torch.is_grad_enabled()
        model, conditions = self._model[0], given[: self._model[0].given_count]
        with torch.enable_grad():
            params = self.start.params(x, *given)
            if not learning or not params.requires_grad:
                params = params.detach().requires_grad_()
            for _ in range(self.steps):
                posterior = self.family(params).expand((self.particles, len(x)))
                if not posterior.has_rsample:
                    raise InputError(
                        f"SemiAmortized climbs by reparameterized draws, {type(self.family).__name__} has none: take a "
                        "continuous family"
                    )
                z = posterior.rsample()
                log_joint = model.prior(*conditions).log_prob(z) + model.likelihood(z, *conditions).log_prob(x)
                elbo = (log_joint - posterior.log_prob(z)).mean(0).sum()
                (slope,) = torch.autograd.grad(elbo, params, create_graph=learning)
                params = params + self.lr * slope / slope.norm(dim=-1, keepdim=True).clamp(min=1)
        return params if learning else params.detach()
