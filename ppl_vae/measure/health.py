"""What is wrong with measured guides, one sentence each; "" where all is well, as in :mod:`ppl_vae.training.health`."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ppl_vae.measure.comparison_table import Row
from ppl_vae.training.health import collapsed
from ppl_vae.training.looking import relation

_MOST = 0.5  # of the data points
_LEAST_THRESHOLD = 0.5  # that of 100 draws: k-hat of fewer says little about a guide


def untrusted(good: Mapping[str, float | None], threshold: float, whole: bool = False) -> str:
    """Says which guides have importance weights that can't be trusted for most of the data.

    Args:
        good: the share of data points whose k-hat is under the threshold, by guide; None where there is none.
        threshold: that of k-hat.
        whole: whether all the data have one k-hat.
    """
    bad = {name: share for name, share in good.items() if share is not None and share < _MOST}
    if not bad or threshold < _LEAST_THRESHOLD:
        return ""
    shares = ", ".join(bad if whole else (f"{name} for {share:.0%} of the data points" for name, share in bad.items()))
    found, richer = ("not", "auto-mvn, auto-iaf") if whole else ("only", "Full, IAF")
    return (
        f"k-hat is {found} below {threshold:.2f} with {shares}, so the importance weights can't be trusted and "
        f"IWELBO_K may lie far below log p(x): take a richer guide ({richer}), train it for more epochs, or find "
        "log p(x) by evidence='annealed'"
    )


def told_of(rows: Sequence[Row], first: Tensor, threshold: float, whole: bool, known: Mapping[str, str]) -> list[str]:
    """Says what looks wrong in a table of guides.

    Args:
        rows: the table.
        first: the first tensor of the data, a row for each data point.
        threshold: that of k-hat.
        whole: whether all the data have one k-hat.
        known: what the trainings have told already, by guide, and "model" where one was trained alone.
    """
    sound = [row for row in rows if row.is_bound]
    lines = [untrusted({row.guide: row.khat_good for row in sound}, threshold, whole)]
    for row in sound:
        is_prior = row.rate == 0  # meant, where it is the prior to the last digit
        # a model that makes no use of z has told it: a guide is right to be the prior then
        told = any("posterior collapse" in known.get(name, "") for name in (row.guide, "model"))
        if row.rate is None or row.active_units is None or is_prior or told:
            continue
        if collapsed(row.rate, row.active_units, None, torch.inf):
            line = collapsed(row.rate, row.active_units, None, relation(first.reshape(len(first), -1).double()))
            lines.append(f"{row.guide}: {line}" if line else "")
    return [line for line in lines if line]
