"""The true posterior as a guide, for models that know it: the gap of its ELBO is zero."""

from torch import Tensor

from ppl_vae.programs import Distribution, Guide, LatentVariableModel


class Exact(Guide):
    """q(z | x) = p(z | x). It has no parameters of its own and follows the model's.

    Args:
        model: a model with ``posterior(x, *given)``.

    Raises:
        ValueError: for a model without it.
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        if not hasattr(model, "posterior"):
            raise ValueError(f"{type(model).__name__} does not know its posterior: it has no posterior(x, *given)")
        self._model = (model,)  # in a tuple, so that its parameters are not registered twice

    def posterior(self, x: Tensor, *given: Tensor) -> Distribution:
        """p(z | x) under the model as it stands."""
        return self._model[0].posterior(x, *given)
