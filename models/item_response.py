"""Item response theory: what persons can do and how hard questions are, from who got which answer right."""

from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.models.bayesian import BayesianModel, require_shape


class ItemResponse(BayesianModel):
    """Answers of persons to items: x_ij ~ Bernoulli(sigmoid(a_j (ability_i - difficulty_j))).

    The two-parameter model (Birnbaum 1968); with one parameter all a_j are 1 (Rasch 1960). Shared are the sites
    "difficulties" ~ N(0, 2^2) and, with two parameters, "log_discriminations" log a_j ~ N(0, 0.5^2), both of event
    shape (items,). The plate "data" holds the persons, and "abilities" ~ N(0, 1), shape (persons,): these fix the zero
    and the unit of the scale.

    It is called as ``model(x)``, x of shape (persons, items) with 1 for a right answer and 0 for a wrong one.

    Args:
        items: the number of items.
        parameters: those of one item, 2 or 1.

    Raises:
        InputError: for no items, or any other number of parameters.

    Examples:
        >>> from ppl_vae.models import ItemResponse
        >>> (x,) = ItemResponse.simulate(persons=5, items=3)
        >>> ItemResponse(items=3)(x).shape
        torch.Size([5, 3])
    """

    def __init__(self, items: int, parameters: int = 2) -> None:
        super().__init__()
        require_count("items", items, 1)
        if parameters not in (1, 2):
            raise InputError(f"parameters is {parameters!r}; choose 1 (difficulty) or 2 (discrimination, too)")
        self.items, self.discriminating = items, parameters == 2

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """Runs as a Pyro program: samples items and abilities and observes x, shape (persons, items)."""
        rows = (len(x), self.items)
        mend = f"make the model with items={x.shape[-1]}" if x.dim() == 2 else "pass a matrix, one row for each person"
        require_shape(self, "x", x, rows, mend)
        zeros = x.new_zeros(self.items)
        difficulties = pyro.sample("difficulties", dist.Normal(zeros, 2.0).to_event(1))
        discriminations = torch.ones_like(zeros)
        if self.discriminating:
            discriminations = pyro.sample("log_discriminations", dist.Normal(zeros, 0.5).to_event(1)).exp()
        with pyro.plate("data", len(x)):
            abilities = pyro.sample("abilities", dist.Normal(x.new_zeros(()), 1.0))
            logits = discriminations * (abilities[..., None] - difficulties)
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)

    @classmethod
    def simulate(cls, persons: int, items: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Draws answers, shape (persons, items): abilities are N(0, 1), difficulties N(0, 1), log a_j is N(0, 0.3^2).

        Args:
            persons: how many answer.
            items: how many questions each of them answers.
            seed: of a generator of its own.

        Raises:
            InputError: for no persons or no items.
        """
        require_count("persons", persons, 1)
        require_count("items", items, 1)
        own: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed)}
        difficulties, log_discriminations = torch.randn(items, **own), 0.3 * torch.randn(items, **own)
        logits = log_discriminations.exp() * (torch.randn(persons, 1, **own) - difficulties)
        return (torch.bernoulli(logits.sigmoid(), **own),)

    @classmethod
    def for_data(cls, x: Tensor, *given: Tensor) -> Self:
        """Makes the model with as many items as x has columns."""
        return cls(x.shape[1])

    @classmethod
    def example_data(cls) -> tuple[Tensor, ...]:
        """Simulated answers of 100 persons to 12 items, shape (100, 12)."""
        return cls.simulate(persons=100, items=12)
