"""Guides that a model makes of itself: its posterior where it knows it, its prior always."""

import pyro
from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.programs import Distribution, Guide, LatentVariableModel


class _FromModel(Guide, abstract=True):
    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, so that its parameters are not registered twice

    @property
    def model(self) -> LatentVariableModel:
        """The model, as it stands now."""
        return self._model[0]


class ExactPosterior(_FromModel):
    """The guide q(z | x) = p(z | x), by the model's own posterior: its gap is zero.

    It has no parameters of its own and follows the model's.

    Args:
        model: a model with ``posterior(x, *given)``.

    Raises:
        InputError: for a model without it.

    Examples:
        >>> import torch
        >>> from ppl_vae import tightness
        >>> from ppl_vae.guides import ExactPosterior
        >>> from ppl_vae.models import LinearGaussian
        >>> model = LinearGaussian(observed_dim=3, latent_dim=2)
        >>> result = tightness(model, ExactPosterior(model), torch.randn(5, 3), particles=10, progress=False)
        >>> bool(abs(result.gap).max() < 1e-4)
        True
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__(model)
        if not hasattr(model, "posterior"):
            raise InputError(f"{type(model).__name__} does not know its posterior: it has no posterior(x, *given)")

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples z in the plate "data", or the one latent that all the data share."""
        site = getattr(self.model, "latent_site", None)
        return super().forward(x, *given) if site is None else pyro.sample(site, self.posterior(x, *given))

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """Returns the model's own posterior."""
        return self.model.posterior(x, *given[: self.model.given_count])


class Prior(_FromModel):
    """The guide q(z | x) = p(z), which is blind to x: nothing of x passes through z, and the rate is zero.

    Args:
        model: any model with one latent site.

    Examples:
        >>> import torch
        >>> from ppl_vae import information
        >>> from ppl_vae.guides import Prior
        >>> from ppl_vae.models import VAE
        >>> model = VAE(observed_dim=64, latent_dim=2)
        >>> x = torch.bernoulli(torch.full((5, 64), 0.3))
        >>> float(information(model, Prior(model), x, progress=False).rate.max())
        0.0
    """

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """Returns the model's own prior, once for each data point."""
        return self.model.prior(*given[: self.model.given_count]).expand((len(x),))
