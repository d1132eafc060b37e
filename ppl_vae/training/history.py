"""The curve and the times of a training."""

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

CURVES = ("elbo", "validation", "seconds")  # what there is of each epoch


@dataclass
class Totals:
    """What the steps of an epoch add up to.

    Attributes:
        loss: the sum of the steps' losses, on the device where they are.
        rows: the rows that were gone through; a loader's sampler may leave some out.
        points: the data points that the losses stand for: those of the whole data where a plate subsamples them.
    """

    loss: Any = 0.0
    rows: int = 0
    points: int = 0

    def add(self, loss: Any, rows: int, points: int) -> None:
        """Adds a step."""
        self.loss, self.rows, self.points = self.loss + loss, self.rows + rows, self.points + points


@dataclass
class History:
    """The curve of a training and its times, one entry for each epoch.

    Attributes:
        elbo: mean training ELBO, nats per data point (the estimate that the steps themselves used; with
            ``ReweightedWakeSleep`` the wake phase's, and -inf with ``TraceTailAdaptive_ELBO``, which gives none). Where
            ``weighted``, the objective with its weights, which is not the ELBO: :func:`ppl_vae.bounds` gives that.
        seconds: wall-clock time.
        size: data points in the last epoch.
        is_bound: False where the guide has a point mass, or sites have weights, so that the "ELBO" bounds nothing.
        weighted: True where ``poutine.scale`` weights sites; the scale of a plate that subsamples the data is none, and
            neither are ``kl_weight`` and ``free_bits`` of :func:`ppl_vae.fit`, which leave the curve one of bounds.
        compile_seconds: what of it a compiler took.
        validation: mean ELBO of held-out data after each epoch, nats per data point; empty without any.
        ended: why the training ended, in words; empty while it goes on.
        remaining: what the stopping rule predicts to be left to gain in the ELBO, nats for each data point (for the
            data set, where its points share a latent); NaN where no rule does.
        held_out: the final ELBO of the held-out data, nats per data point; NaN without any. It is not the last one of
            ``validation`` where the stopping rule puts other parameters in.
        generalization_gap: how far the final ELBO of training data lies above that of the held-out data, nats per data
            point; NaN without any.
        advice: what looked wrong at the end, and what to do, in the sentences that were warned of.

    Examples:
        >>> from ppl_vae import History
        >>> history = History(size=100, elbo=[-50.0, -45.0], seconds=[0.5, 0.25])
        >>> history.latest, history.points_per_second
        (-45.0, 200.0)
    """

    size: int
    is_bound: bool = True
    weighted: bool = False
    elbo: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0
    validation: list[float] = field(default_factory=list)
    ended: str = ""
    remaining: float = math.nan
    held_out: float = math.nan
    generalization_gap: float = math.nan
    advice: list[str] = field(default_factory=list)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """Makes one of what a run's JSON holds, where null stands for a number that is none."""

        def numbers(value: Any) -> Any:
            return math.nan if value is None else list(map(numbers, value)) if isinstance(value, list) else value

        return cls(**{name: numbers(value) for name, value in record.items()})

    @property
    def latest(self) -> float:
        """The last epoch's ELBO, NaN before there is one."""
        return self.elbo[-1] if self.elbo else math.nan

    @property
    def note(self) -> str:
        """What to say beside the curve; empty where the curve is one of bounds."""
        return "" if self.is_bound else "weighted objective, not a bound" if self.weighted else "not a bound"

    def aside(self) -> str:
        """Says beside the curve what the held-out data are at."""
        return f", held out {self.validation[-1]:.2f}" if self.validation else ""

    @property
    def points_per_second(self) -> float:
        """The data points that the median epoch went through in a second."""
        return self.size / sorted(self.seconds)[len(self.seconds) // 2]

    def of_epoch(self, number: int) -> dict[str, float]:
        """Returns the figures of an epoch, counted from 0, by name."""
        return {name: curve[number] for name in CURVES if number < len(curve := getattr(self, name))}

    def state_dict(self) -> dict[str, Any]:
        """Returns the part of it that a checkpoint holds."""
        curves = {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in CURVES}
        return {**curves, "size": self.size, "compile_seconds": self.compile_seconds, "ended": self.ended}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        elbo, validation, seconds = (state[name].tolist() for name in CURVES)
        lengths = [len(elbo), len(validation) or len(elbo)]
        if not all(isinstance(curve, list) for curve in (elbo, seconds, validation)) or {len(seconds)} != {*lengths}:
            raise ValueError("its curves have no common length")
        self.size, self.compile_seconds = operator.index(state["size"]), float(state["compile_seconds"])
        self.elbo, self.seconds, self.validation, self.ended = elbo, seconds, validation, str(state["ended"])

    def record(self, epochs: Sequence[Totals], seconds: float, compile_seconds: float) -> None:
        """Adds epochs that have ended, which took so many seconds together."""
        for totals in epochs:
            self.size = totals.rows
            self.elbo.append(-float(totals.loss) / totals.points)
            self.seconds.append(seconds / len(epochs))
        self.compile_seconds = compile_seconds
