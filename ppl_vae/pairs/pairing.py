"""Whether a guide and a model belong together, by the sites of one run: the same latents, of one kind and shape."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from pyro.distributions import Delta, Unit, VonMises
from torch.distributions import constraints

from ppl_vae.errors import InputError

Site = dict[str, Any]


def require_a_pair(
    guide_sites: list[Site], model_sites: list[Site], *, draws: bool = False, summed_out: bool = False
) -> None:
    """Refuses a guide and a model whose log-weights would mean nothing.

    Args:
        guide_sites: the random sites of the guide's trace.
        model_sites: those of the model's, replayed on the guide's draws.
        draws: also look at the draws: each must lie in the support of the model's prior. It costs a pass over them.
        summed_out: see :func:`mismatches`.

    Raises:
        InputError: with the first sentence of :func:`mismatches`, or of :func:`strays`.
    """
    for line in mismatches(guide_sites, model_sites, summed_out):
        raise InputError(line)
    for line in strays(guide_sites, model_sites) if draws else ():
        raise InputError(line)


def mismatches(guide_sites: list[Site], model_sites: list[Site], summed_out: bool = False) -> Iterator[str]:
    """Says what keeps two programs from being a pair, one sentence each; no draw is looked at.

    With ``summed_out``, a latent that the model enumerates may be missing in the guide: ``TraceEnum_ELBO`` needs none.
    """
    seen = [site["name"] for site in guide_sites if site["is_observed"] and not isinstance(site["fn"], Unit)]
    if not any(site["is_observed"] for site in model_sites):
        swapped = "the guide does: give the model first" if seen else ""
        yield f"the model observes nothing{', ' + swapped if swapped else ': give the data to a site by obs='}"
    elif seen:
        yield (
            f"the guide observes {seen[0]!r}: a guide samples the latents given the data and has no obs=; give a guide "
            "of the model's latents alone (pyro.factor adds a term)"
        )
    ours, theirs = _latents(guide_sites), _latents(model_sites)
    for name in sorted(theirs.keys() - ours.keys()):
        if not theirs[name]["infer"].get("enumerate"):
            yield f"the model's latent {name!r} is missing in the guide: sample it there, or observe it by obs="
        elif not summed_out:
            yield (
                f"the model's latent {name!r} is missing in the guide, as TraceEnum_ELBO sums over it; a log-weight "
                "needs a draw of it: sample it in the guide, too, or sum it out in the model, by MixtureSameFamily say"
            )
    for name in sorted(ours.keys() - theirs.keys()):
        yield f"the guide's latent {name!r} is missing in the model: sample it there under the same name"
    for name in sorted(ours.keys() & theirs.keys()):
        yield from _unlike(name, ours[name]["fn"], theirs[name]["fn"])


def strays(guide_sites: list[Site], model_sites: list[Site]) -> Iterator[str]:
    """Says which latents leave the support of the model's prior, or count in one program alone; one sentence each."""
    ours, theirs = _latents(guide_sites), _latents(model_sites)
    for name in sorted(ours.keys() & theirs.keys()):
        support, value = _support_of_latent(theirs[name]["fn"]), theirs[name]["value"]
        if not _same_mask(ours[name]["mask"], theirs[name]["mask"]):
            yield (
                f"the latent {name!r} is masked otherwise in the guide than in the model, so that its density counts "
                "in one of them alone: put the same poutine.mask around it in both"
            )
        if support is not None and not bool(support.check(value).all()) and bool(value.isfinite().all()):
            yield _leaves(name, ours[name]["fn"], theirs[name]["fn"])


def _unlike(name: str, ours: Any, theirs: Any) -> Iterator[str]:
    """Says how a latent's two distributions differ in kind, in shape, or by a range that goes beyond the model's."""
    kinds = [_is_discrete(fn) for fn in (ours, theirs)]
    if None not in kinds and kinds[0] != kinds[1] and not isinstance(_base(ours), Delta):
        words = ["discrete" if kind else "continuous" for kind in kinds]
        yield (
            f"the latent {name!r} is {words[0]} in the guide ({_name(ours)}) and {words[1]} in the model "
            f"({_name(theirs)}): a probability can't be weighed against a density; take a {words[1]} distribution in "
            "the guide"
        )
    elif tuple(ours.event_shape) != tuple(theirs.event_shape):
        yield (
            f"the latent {name!r} has event shape {tuple(ours.event_shape)} in the guide and "
            f"{tuple(theirs.event_shape)} in the model: make them equal, dimensions of one data point's own moved into "
            "the event by .to_event(1)"
        )
    elif not _same_but_for_ones(ours.batch_shape, theirs.batch_shape):
        yield (
            f"the latent {name!r} has batch shape {tuple(ours.batch_shape)} in the guide and "
            f"{tuple(theirs.batch_shape)} in the model: sample it inside the same plates in both"
        )
    elif _goes_beyond(ours, theirs):
        yield _leaves(name, ours, theirs)


def _leaves(name: str, ours: Any, theirs: Any) -> str:
    return (
        f"the guide's draws of {name!r} ({_name(ours)}) leave the support of the model's prior, "
        f"{_support_of_latent(theirs)} ({_name(theirs)}), where its density is 0: take a guide with the "
        "model's support, such as a LogNormal for a positive latent, or a TransformedDistribution"
    )


def _latents(sites: list[Site]) -> dict[str, Site]:
    """Returns a trace's latents by name; a guide's auxiliary sites are none."""
    return {
        site["name"]: site for site in sites if not site["is_observed"] and not site["infer"].get("is_auxiliary", False)
    }


def _goes_beyond(ours: Any, theirs: Any) -> bool:
    """Says whether the range of one goes beyond the other's, as far as both are intervals."""
    inner, outer = _range(_support_of_latent(ours)), _range(_support_of_latent(theirs))
    if inner is None or outer is None or isinstance(_base(ours), Delta):
        return False
    try:
        return bool((torch.as_tensor(inner[0]) < outer[0]).any() or (torch.as_tensor(inner[1]) > outer[1]).any())
    except RuntimeError:  # bounds of other shapes: the draws themselves tell
        return False


def _range(support: Any) -> tuple[Any, Any] | None:
    """Returns the least and the largest value of a support, None where it is no interval."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if support is constraints.real:
        return -math.inf, math.inf
    if support is constraints.boolean:
        return 0, 1
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if low is None and high is None:
        return None
    return -math.inf if low is None else low, math.inf if high is None else high


def support_of(fn: Any) -> Any:
    """Returns a distribution's support, None where it does not say."""
    try:
        return fn.support
    except (AttributeError, NotImplementedError):
        return None


def _support_of_latent(fn: Any) -> Any:
    """Returns where a latent's density integrates to 1: for an angle one turn, though it is defined for all numbers."""
    return constraints.interval(-math.pi, math.pi) if isinstance(_base(fn), VonMises) else support_of(fn)


def _same_mask(ours: Any, theirs: Any) -> bool:
    """Says whether two masks are equal; None masks nothing."""
    ours, theirs = (torch.as_tensor(True if mask is None else mask) for mask in (ours, theirs))
    return bool((ours == theirs).all())


def _is_discrete(fn: Any) -> bool | None:
    try:
        return bool(support_of(fn).is_discrete)
    except (AttributeError, NotImplementedError):
        return None


def _same_but_for_ones(first: Any, second: Any) -> bool:
    """Says whether shapes are equal, but for dimensions of 1 on the left."""
    width = max(len(first), len(second))
    return (1,) * (width - len(first)) + tuple(first) == (1,) * (width - len(second)) + tuple(second)


def _base(fn: Any) -> Any:
    while hasattr(fn, "base_dist") and not isinstance(fn, Delta):
        fn = fn.base_dist
    return fn


def _name(fn: Any) -> str:
    """Returns the name that a distribution is known by: that of what is inside .to_event() and .mask()."""
    while type(fn).__name__ in ("Independent", "MaskedDistribution", "ExpandedDistribution", "NotReparameterized"):
        fn = getattr(fn, "base_dist", None) or fn.base
    return type(fn).__name__
