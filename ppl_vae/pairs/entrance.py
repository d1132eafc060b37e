"""What every public function that runs a pair does first."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from ppl_vae.graphs.private import sources_unkept
from ppl_vae.pairs.kinds import looked_at
from ppl_vae.pairs.threads import one_at_a_time

P = ParamSpec("P")
R = TypeVar("R")


def runs_a_pair(function: Callable[P, R]) -> Callable[P, R]:
    """Has a public function run by one thread at a time, with arguments of the kinds that it is annotated with.

    Of the graphs that are made meanwhile, no sources are kept.

    Examples:
        >>> from ppl_vae.pairs.entrance import runs_a_pair
        >>> from ppl_vae.pairs.modules import Program
        >>> @runs_a_pair
        ... def measure(model: Program, data: list[int]) -> int:
        ...     return model(data)
        >>> measure(len, [1, 2])
        2
        >>> measure(list, [1, 2])
        Traceback (most recent call last):
        ppl_vae.errors.InputError: the model is <class 'list'>; expected a Pyro program: a made module, or a function
    """

    @wraps(function)
    def enter(*args: P.args, **kwargs: P.kwargs) -> R:
        with sources_unkept():
            return function(*args, **kwargs)

    return one_at_a_time(looked_at(enter))
