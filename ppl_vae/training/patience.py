"""The rule that stops by held-out data, and keeps the parameters of the best epoch."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ppl_vae.errors import InputError, require_count
from ppl_vae.training.stopping import StoppingRule, Training


class Patience(StoppingRule):
    """Keeps the parameters of the epoch with the highest held-out bound, and stops where it has not risen for long.

    It is given to :func:`ppl_vae.fit` as ``until``, with ``validation`` (Prechelt 1998).

    Args:
        epochs: how many to wait for a higher bound; None goes on to the last epoch, and keeps the best one.

    Attributes:
        best: the highest bound, in nats per data point.
        epoch: the number of epochs after which it was reached.

    Raises:
        InputError: for fewer than one epoch.

    Examples:
        >>> import torch
        >>> from ppl_vae import Patience, fit
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((50, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> rule = Patience(epochs=3)
        >>> history = fit(*pair, x, validation=0.2, until=rule, lr=0.03, epochs=100, seed=0, progress=False)
        >>> len(history.elbo) == len(history.validation) == rule.epoch + 3
        True
    """

    needs_held_out = True

    def __init__(self, epochs: int | None = 10) -> None:
        if epochs is not None:
            require_count("patience", epochs, 1)
        self.epochs = epochs
        self.best, self.epoch = -math.inf, 0
        self._kept: list[Tensor] = []

    def begin(self, training: Training) -> None:
        """Forgets another training."""
        self.best, self.epoch, self._kept = -math.inf, 0, []
        self._tensors = training.tensors

    def after_epoch(self, training: Training) -> str:
        """Keeps the parameters where they are the best so far, and says whether the wait has been long enough."""
        done, bound = len(training.history.validation), training.history.validation[-1]
        if bound > self.best:
            self.best, self.epoch = bound, done
            self._kept = [tensor.detach().clone() for tensor in training.tensors]
        if self.epochs is None or done - self.epoch < self.epochs:
            return ""
        return f"the held-out bound has not risen for {self.epochs} epochs: it was highest after {self.epoch}"

    def finish(self, training: Training) -> None:
        """Puts the best parameters back."""
        if self._kept:
            training.put(self._kept, training.tensors)

    def state_dict(self) -> dict[str, Any]:
        """Returns what it has found so far."""
        return {"epochs": self.epochs, "best": self.best, "epoch": self.epoch, "kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there; InputError where the patience was another one."""
        if state["epochs"] != self.epochs:
            raise InputError(f"the training was begun with a patience of {state['epochs']}, not {self.epochs}")
        kept = list(state["kept"])
        if kept and [one.shape for one in kept] != [tensor.shape for tensor in self._tensors]:
            raise ValueError("the parameters of its best epoch have other shapes")
        self.best, self.epoch = float(state["best"]), int(state["epoch"])
        self._kept = [one.to(like.device).clone() for one, like in zip(kept, self._tensors, strict=False)]
