"""The log of a mean of weights, with an error that holds; or with none, where none can be had.

For weights w with mean 1, log mean w is off by about mean w - 1. The delta method's error for it, the spread of the
weights over the root of their number, misses the part of a heavy tail that the draws have not seen.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from ppl_vae.pairs.psis import khat_threshold, tail_length

_LARGEST_SHAPE = 0.9  # of a tail whose mean is still asked for


@dataclass(frozen=True)
class LogMean:
    """An estimate of log E[w] for each data point, in nats, float64 of shape (batch,).

    Attributes:
        value: log mean w, a lower bound on average.
        error: its standard error, widened so that 1.96 of it on either side cover log E[w] in 95% of cases; NaN where
            the weights are too heavy to tell.
        bias: how far ``value`` lies below log E[w] on average, to first order: half the relative variance of the mean;
            NaN where that is no small number.
    """

    value: Tensor
    error: Tensor
    bias: Tensor


def of_draws(log_weights: Tensor, khat: np.ndarray) -> LogMean:
    """Estimates log E[w] from many independent draws, shape (particles, batch).

    k-hat, shape (batch,), is the shape of the tail of each data point's weights.

    To the delta method's variance comes that of the mean of the largest weights, a generalized Pareto tail of scale s
    and shape k fitted to M of S weights: (M / S) s / (1 - k)^2 for each unit of k, whose standard error is
    (1 + k) / sqrt(M) (Hosking & Wallis 1987; PSIS: Vehtari et al. 2024). k is taken one such error above k-hat, since
    few draws underestimate it. There is no error where k-hat is above its threshold.
    """
    count = len(log_weights)
    weights = log_weights.detach().double()
    largest = weights.amax(0)
    weights = (weights - largest).exp()
    mean = weights.mean(0)
    variance = weights.var(0) / count / mean.square()
    length = tail_length(count)
    shape = torch.as_tensor(khat, dtype=torch.float64, device=mean.device)
    reliable = shape < khat_threshold(count)
    excess = weights.topk(length + 1, 0).values
    middle = (excess[:-1] - excess[-1]).median(0).values
    scale = middle / torch.where(shape.abs() < 1e-6, math.log(2), torch.expm1(shape * math.log(2)) / shape)
    # The tail's mean goes like 1 / (1 - k), so an error in k moves it by the derivative 1 / (1 - k)^2. That is what the
    # weights that were not drawn may add, and it grows where the delta method's variance, of those drawn, sees nothing.
    upper = (shape + (1 + shape.clamp(min=0)) / math.sqrt(length)).clamp(-0.5, _LARGEST_SHAPE)
    unseen = length / count * scale / (1 - upper).square() * (1 + upper) / math.sqrt(length) / mean
    error = torch.where(reliable, (variance + unseen.square()).sqrt(), torch.nan)
    return LogMean(mean.log() + largest, error, torch.where(reliable, variance / 2, torch.nan))


def of_chains(log_weights: Tensor) -> LogMean:
    """Estimates log E[w] from a few independent chains, shape (chains, batch), at least 2.

    So few weights do not show their tail. The log-weight of an annealed chain is a sum over many steps and all but
    normal, which makes the relative variance of a weight exp(v) - 1 for log-weights of variance v; the larger one of
    this and the weights' own is taken, and Student's t quantile for the degrees of freedom of the chains. Where a data
    point's v is below the mean of all data points, the mean is taken: few chains that miss a tail do so together.

    There is no error where the mean of the weights has a relative variance above 1: anneal in more steps.
    """
    count = len(log_weights)
    raw = log_weights.detach().double()
    largest = raw.amax(0)
    weights = (raw - largest).exp()
    mean = weights.mean(0)
    spread = raw.var(0)
    usual = spread.clamp(max=4 * float(spread.median())).mean()  # a few points far off don't count
    spread = torch.expm1(torch.maximum(spread, usual).clamp(max=10.0))
    variance = torch.maximum(weights.var(0) / mean.square(), spread) / count
    variance = torch.where(variance > 1, torch.nan, variance)
    return LogMean(mean.log() + largest, student(count - 1) * variance.sqrt(), variance / 2)


@cache
def student(freedom: int) -> float:
    """Says how much wider a 95% interval is by Student's t than by the normal distribution."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(freedom, 0.975) / ndtri(0.975)) if freedom > 0 else math.nan
