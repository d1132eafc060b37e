"""Log-densities of whole events in fewer passes over memory than torch's own, element by element."""

from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent

_BERNOULLIS = (Bernoulli, pyro.distributions.Bernoulli)
_FACTORS = 64  # so many sigmoids of a positive number multiply to 2^-64 at least, far above float32's smallest


def log_density(fn: Any, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Returns fn.log_prob(value); at a third of the cost for bits with logits where no gradient is asked for."""
    if (
        not torch.is_grad_enabled()
        and not args
        and not kwargs
        and isinstance(fn, Independent)
        and fn.reinterpreted_batch_ndims == 1
        and type(fn.base_dist) in _BERNOULLIS  # a subclass may have a density of its own
        and "logits" in fn.base_dist.__dict__
        and fn.base_dist.logits.dtype in (torch.float32, torch.float64)  # the products below underflow in others
    ):
        if fn._validate_args:
            fn.base_dist._validate_sample(value)
        return bits_log_prob(fn.base_dist.logits, value)
    return fn.log_prob(value, *args, **kwargs)


def bits_log_prob(logits: Tensor, value: Tensor) -> Tensor:
    """Returns log p of bits, summed over the last dimension, without gradients.

    It is value . logits - sum softplus(logits).

    With a = |logit|: x l - softplus(l) = (x - 1/2) l - a / 2 + log sigmoid(a). A product of sigmoids takes one
    logarithm for many of them; torch's softplus takes its slow log1p for each.
    """
    inner = _dot(logits, value.to(logits.dtype) - 0.5)  # read first, so that a graph may write over the logits after it
    positive = logits.abs()
    half = positive.sum(-1).mul_(-0.5)
    product = positive.sigmoid_()
    factors = 1
    while factors < _FACTORS and product.shape[-1] % 2 == 0:
        middle = product.shape[-1] // 2
        product, factors = product[..., :middle].mul_(product[..., middle:]), 2 * factors
    return half + product.log().sum(-1) + inner


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Returns inner products over the last dimension, as matrix products where second has no particles of its own."""
    if second.dim() != 2 or first.dim() != 3:
        return (first * second).sum(-1)
    return torch.einsum("pbd,bd->pb", first, second)
