"""Guides that a model makes of itself: its posterior where it knows it, its prior always."""

from torch import Tensor

from ppl_vae.errors import InputError
from ppl_vae.programs import Distribution, Guide, LatentVariableModel


class _FromModel(Guide, abstract=True):
    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        self._model = (model,)  # in a tuple, so that its parameters are not registered twice

    @property
    def model(self) -> LatentVariableModel:
        """The model, as it stands."""
        return self._model[0]


class ExactPosterior(_FromModel):
    """q(z | x) = p(z | x). It has no parameters of its own and follows the model's; its gap is zero.

    Args:
        model: a model with ``posterior(x, *given)``.

    Raises:
        InputError: for a model without it.
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__(model)
        if not hasattr(model, "posterior"):
            raise InputError(f"{type(model).__name__} does not know its posterior: it has no posterior(x, *given)")

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The model's own posterior."""
        return self.model.posterior(x, *given[: self.model.given_count])


class Prior(_FromModel):
    """q(z | x) = p(z): blind to x. Nothing of x passes through z, and the rate is zero.

    Args:
        model: any model with one latent site.
    """

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """The model's own prior, once for each data point."""
        return self.model.prior(*given[: self.model.given_count]).expand((len(x),))
