"""The base of models with latents that all the data share, and the checks and the matrix product that they have."""

from typing import ClassVar, Self

import torch
from pyro.nn import PyroModule
from torch import Tensor

from ppl_vae.errors import Abstract, InputError


class BayesianModel(Abstract, PyroModule, abstract=True):
    """A model with latents that all the data share, written as a Pyro program.

    A subclass defines :meth:`forward`, a program of x, the observed tensor with one row per data point, and of the
    inputs behind it. The observations are in ``pyro.plate("data", len(x))``, as are latents of single data points; the
    shared latents are outside of it. The program observes x itself (``obs=x``), no copy of it, so that data can be
    simulated in its place. A subclass may add the rest:

    - ``given_names``, the names of its inputs, where it has any;
    - :meth:`example_data`, the data that it is shown on;
    - ``log_evidence(x, *given)``, log p of all the data in nats, a scalar, and ``posterior(x, *given)``, a distribution
      over its one latent, whose site ``latent_site`` names; it has them where they are known exactly.

    Everything broadcasts over dimensions left of the plates, in which particles come: under K of them a shared number
    has shape (K, 1) and a shared vector (K, 1, size). Effects of groups are indexed from the right,
    ``effects[..., group]``.

    Attributes:
        latent_site: the name of the one latent, where its posterior is known.
        given_names: what the inputs behind x are called; arguments behind these are for the guide alone.

    Raises:
        TypeError: for a subclass that does not define ``forward``, when the class is made.

    Examples:
        >>> import pyro
        >>> import pyro.distributions as dist
        >>> import torch
        >>> from ppl_vae.models import BayesianModel
        >>> class Mean(BayesianModel):
        ...     def forward(self, x, *given):
        ...         mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        ...         with pyro.plate("data", len(x)):
        ...             return pyro.sample("x", dist.Normal(mean, 1.0), obs=x)
        >>> Mean()(torch.ones(5)).shape
        torch.Size([5])
    """

    _recipe = "forward(self, x, *given)"
    given_names: ClassVar[tuple[str, ...]] = ()
    latent_site: ClassVar[str | None] = None

    @property
    def given_count(self) -> int:
        """How many inputs the model is conditional on."""
        return len(self.given_names)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples the latents and observes x in the plate "data"; returns x."""
        raise TypeError(f"{type(self).__name__} has no forward: define {self._recipe}")

    @classmethod
    def example_data(cls) -> tuple[Tensor, ...]:
        """Returns x and its inputs, float32 where they are not indices; the same in every call."""
        raise TypeError(f"{cls.__name__} has no example data: define example_data(cls)")

    @classmethod
    def for_data(cls, x: Tensor, *given: Tensor) -> Self:
        """Makes the model whose sizes are those of the data."""
        return cls()

    def inputs(self, x: Tensor, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns the model's own inputs among the arguments behind x.

        Raises:
            InputError: where there are too few, or one has not as many rows as x.
        """
        if len(given) < self.given_count:
            raise InputError(
                f"{type(self).__name__} got {len(given)} of its {self.given_count} inputs behind x: call "
                f"model(x, {', '.join(self.given_names)})"
            )
        own = given[: self.given_count]
        if not torch.jit.is_tracing():  # shapes are tensors then, and the same as in the run before
            for name, value in zip(self.given_names, own, strict=True):
                if value.shape[:1] != x.shape[:1]:
                    raise InputError(
                        f"{name} has shape {tuple(value.shape)} for {len(x)} data points: give it one row for each"
                    )
        return own


def require_shape(model: PyroModule, name: str, value: Tensor, shape: tuple[int, ...], mend: str) -> None:
    """Raises InputError where a tensor has another shape than the model needs, or no floating-point numbers.

    Args:
        model: whose argument it is; named in the error.
        name: of the argument.
        value: the argument.
        shape: what the model needs.
        mend: how to get there, the end of the sentence.

    Raises:
        InputError: with all of these in one sentence.
    """
    if torch.jit.is_tracing():
        return
    if value.shape != shape:
        raise InputError(
            f"{name} has shape {tuple(value.shape)}, but {type(model).__name__} needs {tuple(shape)}: {mend}"
        )
    if not value.is_floating_point():
        raise InputError(
            f"{name} is {value.dtype}, but {type(model).__name__} needs floating-point numbers: pass {name}.float()"
        )


def require_positive(name: str, value: float) -> None:
    """Raises InputError where a scale is not above 0."""
    if not value > 0:
        raise InputError(f"{name} is {value}; a scale above 0 is needed")


def linear(inputs: Tensor, weights: Tensor) -> Tensor:
    """The inner products of rows with shared weights, shape (..., data), as a matrix product.

    Args:
        inputs: one row per data point, shape (data, features).
        weights: shape (features,), or (..., 1, features) with particles on the left and 1 for the plate "data".

    Returns:
        shape (data,) or (..., data). A product of broadcast tensors would hold (..., data, features) numbers.
    """
    if weights.dim() == 1:
        return inputs @ weights
    return (weights @ inputs.mT).squeeze(-2)


def standardized(value: Tensor) -> Tensor:
    """Columns, or one vector, less their mean and over their sample standard deviation, as float32."""
    value = value.double()
    return ((value - value.mean(0)) / value.std(0)).float()
