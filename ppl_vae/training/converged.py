"""Stops a training where the ELBO that is left to gain is predicted to be below a tolerance in nats.

The learning rate is constant over a stage, and the result is the mean of the parameters over the stage's later half.
Three things keep that mean from the optimum, and each is measured by ELBOs on common noise:

- noise: with the curvature H and parts of the half whose means a and b are independent, ELBO((a + b) / 2) lies above
  (ELBO(a) + ELBO(b)) / 2 by (a - b)'H(a - b) / 8, which is on average what the whole mean is below the optimum;
- what is still to be learned: the gain from one mean to the next, of twice the steps, and its extrapolation;
- the rate: with a constant one the mean has a bias (Dieuleveut, Durmus & Bach 2020), so the rate is halved, and what
  the next stage gains beyond the prediction says how much is left in a geometric series.

Averaged iterates and rates lowered until little is left to gain are those of Dhaka et al. (2020) and Welandawe et al.
(2022, "RAABBVI"). They judge by the parameters' R-hat and the symmetrised KL of two guides, which need a fixed model
and few parameters, none of them in a flat direction; the ELBO itself is what is asked for, and is there for any pair.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pyro.infer import ReweightedWakeSleep, TraceTailAdaptive_ELBO
from torch import Tensor

from ppl_vae.errors import InputError, is_number, shown
from ppl_vae.training.averages import Averages
from ppl_vae.training.stopping import StoppingRule, Training

_LOWERED = 0.5  # the learning rate, from stage to stage
_LOOSE = 3.0  # tolerances that may be left of the first stage, since the next one goes on
_FEW, _MANY = 8, 256  # evaluations of each candidate: more where these can't decide
_CAUTION = 1.5  # times the noise that was measured, of which few independent directions may tell
_SLOWEST, _FASTEST = 0.9, 0.25  # what a gain is at least and at most taken to be of the one before


class Left(NamedTuple):
    """What is predicted to be left to gain, in nats per unit.

    Attributes:
        noise: what the mean of a stage lies below the optimum by its noise.
        trend: what the training still learns.
        rate: what its learning rate costs.
        error: twice the standard error of these figures.
    """

    noise: float
    trend: float
    rate: float
    error: float

    @property
    def inside(self) -> float:
        """What is left at this learning rate, at most."""
        return self.noise + self.trend + self.error

    @property
    def total(self) -> float:
        """What is left, at most."""
        return self.inside + self.rate


class Converged(StoppingRule):
    """Stops where no more than a tolerance is predicted to be left to gain in the ELBO.

    The parameters become the mean over the later half of the last stage. ``history.remaining`` is what is predicted to
    be left, and ``history.ended`` says why the training ended: by the tolerance, or by the last epoch. It is about the
    optimum near which the training is: a better one far away, or a plateau that it would leave later, shows in
    :func:`ppl_vae.remaining` or another start at most.

    It keeps up to 16 copies of all parameters in memory.

    Args:
        nats: the tolerance, for each data point; for the data set, where its points share a latent.

    Raises:
        InputError: for a tolerance that is not above 0.

    Examples:
        >>> from ppl_vae import Converged, fit
        >>> from ppl_vae.models import LinearRegression
        >>> from pyro.infer.autoguide import AutoNormal
        >>> x, inputs = LinearRegression.example_data()
        >>> model = LinearRegression.for_data(x, inputs)
        >>> history = fit(
        ...     model, AutoNormal(model), (x, inputs), until=Converged(nats=0.5), lr=0.02, epochs=10_000,
        ...     batch_size=len(x), seed=0, progress=False,
        ... )
        >>> len(history.elbo) < 10_000, history.remaining < 0.5
        (True, True)
    """

    each_epoch = False
    lowers_rate = True
    judges_elbo = True

    def __init__(self, nats: float = 0.02) -> None:
        if not is_number(nats) or not 0 < nats < math.inf:
            raise InputError(f"nats is {shown(nats)}; expected a tolerance above 0, such as 0.02")
        self.nats = float(nats)

    def begin(self, training: Training) -> None:
        """Begins the first stage; InputError for an estimator whose loss is not what its gradients climb."""
        if isinstance(training.elbo, ReweightedWakeSleep | TraceTailAdaptive_ELBO):
            raise InputError(
                f"{type(training.elbo).__name__} has no bound that all of its gradients climb, so what is left of it "
                "can't be told: take Trace_ELBO, or another rule"
            )
        self._training, self._averages = training, Averages(training.parameters)
        self._factor, self._checked = 1.0, 0
        self._before: list[Tensor] = []  # the mean of the stage before
        self._noise_before = 0.0  # that of the stage before, times its steps
        self._expected = 0.0  # to be left of that stage by noise and trend
        self._shortest = 0  # steps of this stage: in fewer than those before, it would not forget where it began
        self.left = Left(*[math.nan] * 4)

    def after_step(self) -> None:
        """Takes in the parameters."""
        self._averages.add()

    def after_epoch(self, training: Training) -> str:
        """Looks at what is left, once the stage is an eighth longer than at the last look."""
        steps = self._averages.steps
        if not self._averages.are_enough or steps < max(1.125 * self._checked, self._shortest):
            return ""
        self._checked = steps
        self.left = self._measured(training)
        if self._before and self.left.total < self.nats:
            return f"at most {self.left.total:.2g} nats are predicted to be left to gain, of {self.nats:g} allowed"
        if self.left.inside < (self.nats if self._before else _LOOSE * self.nats):
            self._next_stage(training)
        return ""

    def finish(self, training: Training) -> None:
        """Puts the mean in, or leaves the last parameters where they are better: early, the mean lags behind."""
        if not self._averages.are_enough:
            return
        if self._checked < self._averages.steps:
            self.left = self._measured(training)
        last = [leaf.detach().clone() for leaf in training.parameters]
        mean = self._averages.mean(self._averages.half, 0)
        values = training.judge.values([mean, last], range(_FEW)).mean(0)
        gained = max(float(values[1] - values[0]), 0.0)
        if not gained:
            training.put(mean)
        training.history.remaining = max(self.left.total - gained, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Returns the stage so far, and what is known of the one before."""
        return {
            "nats": self.nats,
            "averages": self._averages.state_dict(),
            "factor": self._factor,
            "checked": self._checked,
            "shortest": self._shortest,
            "noise": self._noise_before,
            "before": self._before,
            "expected": self._expected,
            "left": list(self.left),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there; InputError where the tolerance was another one."""
        if state["nats"] != self.nats:
            raise InputError(f"the training was to stop at {state['nats']:g} nats, here at {self.nats:g}: begin anew")
        self._averages.load_state_dict(state["averages"])
        self._factor, self._checked = float(state["factor"]), int(state["checked"])
        self._shortest, self._noise_before = int(state["shortest"]), float(state["noise"])
        self._before = [one.to(leaf) for one, leaf in zip(state["before"], self._training.parameters, strict=False)]
        self._expected, self.left = float(state["expected"]), Left(*map(float, state["left"]))
        self._training.set_rate(self._factor)

    def _next_stage(self, training: Training) -> None:
        """Goes on from the mean, at half the rate."""
        self._before, self._expected = self._averages.mean(self._averages.half, 0), self.left.inside
        self._shortest = max(self._shortest, self._averages.steps)
        self._noise_before = self.left.noise / _CAUTION * self._averages.steps
        self._factor *= _LOWERED
        training.set_rate(self._factor)
        training.put(self._before)
        self._averages.restart()
        self._checked = 0

    def _measured(self, training: Training) -> Left:
        """Measures what is left, with as many evaluations as it takes to say whether that is below the tolerance."""
        averages, half = self._averages, self._averages.half
        quarter, eighth = half // 2, half // 4
        candidates = [
            averages.mean(half, 0),
            averages.mean(half + quarter, half),
            averages.mean(half + quarter + eighth, half + quarter),
            *(averages.mean(first, last) for first, last in ((half, quarter), (quarter, 0))),
            *(averages.mean(eighth * (number + 1), eighth * number) for number in range(4)),
            *([self._before] if self._before else []),
        ]
        enough = self.nats if self._before else _LOOSE * self.nats
        values = training.judge.values(candidates, range(_FEW))
        while True:
            left = self._left(values)
            sure = left.total < enough or left.total - left.error > enough
            if sure or len(values) >= _MANY:
                return left
            values = torch.cat([values, training.judge.values(candidates, range(len(values), 2 * len(values)))])

    def _left(self, values: Tensor) -> Left:
        """Predicts what is left from the ELBOs of the candidates, shape (evaluations, candidates)."""
        if not values.isfinite().all():
            raise InputError("the ELBO of averaged parameters is not finite, so they can't be compared: lower lr")
        gains = values[:, 0] - values[:, 1]
        gain, gain_before = float(gains.mean()), float((values[:, 1] - values[:, 2]).mean())
        by_halves = float((values[:, 0] - values[:, 3:5].mean(1)).mean())
        by_quarters = float((values[:, 0] - values[:, 5:9].mean(1)).mean()) / 3
        noise = max(by_halves, by_quarters, 0.0)
        # twice the steps have half the noise, so noise alone gains as much as it leaves, and twice that before
        learned, learned_before = max(gain - noise, 0.0), max(gain_before - 2 * noise, 0.0)
        ratio = learned / learned_before if learned_before > 0 else 0.5
        ratio = min(max(ratio, _FASTEST), _SLOWEST)
        # the noise of a mean over many steps does not depend on the rate, but on their number (Polyak & Juditsky 1992)
        noise = _CAUTION * max(noise, self._noise_before / self._averages.steps)
        trend = max(learned * ratio / (1 - ratio), -gain - noise)  # a loss is noise of more than the mean's length
        rate = 0.0
        if self._before:
            by_rate = float((values[:, 0] - values[:, 9]).mean())
            rate = max(by_rate - self._expected, -by_rate, 0.0) * _LOWERED / (1 - _LOWERED)
        return Left(noise, trend, rate, 2 * float(gains.std()) / math.sqrt(len(values)))
