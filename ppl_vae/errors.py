"""What is refused, with a sentence that says how to mend it: bad input, and classes that lack what they are for."""

import math
import re
import sys
from numbers import Real
from typing import Any, ClassVar, Self

_WIDTH = 80  # of a value in a sentence
_SEEDS = 2**32  # those that numpy takes; Python and torch take more
_LONG = re.compile(r"\S{400,}")  # a name that would hide the rest of the sentence
_SHAPES = re.compile(r"\n *Trace Shapes:")  # where Pyro's table of a program's sites begins, which it adds to errors


def in_one_line(text: str) -> str:
    """Returns a message as one line: line breaks and control characters as Python writes them, long names shortened.

    Examples:
        >>> from ppl_vae.errors import in_one_line
        >>> print(in_one_line("there is no two\\nlines.npy"))
        there is no two\\nlines.npy
    """
    line = text if text.isprintable() else "".join(part if part.isprintable() else repr(part)[1:-1] for part in text)
    return _LONG.sub(lambda name: f"{name[0][:150]}...{name[0][-150:]}", line)


def first_line(error: BaseException) -> str:
    """Gives what an error says first, or its kind where it says nothing.

    Examples:
        >>> from ppl_vae.errors import first_line
        >>> first_line(ValueError("no\\nmore")), first_line(KeyError())
        ('no', 'KeyError')
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


class InputError(ValueError):
    """Bad input: the message says what was given, what is expected and how to mend it.

    The message is one line, whatever names and reasons it quotes. The command line shows it alone, and ends with exit
    status 2.

    Args:
        message: the sentence.

    Examples:
        >>> from ppl_vae.guides import Diagonal
        >>> Diagonal(0)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: latent_dim is 0; Diagonal needs at least 1
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(in_one_line(_SHAPES.split(message, maxsplit=1)[0]))


def shown(value: Any) -> str:
    """Returns how a value is called in a sentence: as it is written, or by its kind where that is long.

    Examples:
        >>> from ppl_vae.errors import shown
        >>> shown("adam"), shown(list(range(100)))
        ("'adam'", 'a list')
    """
    text = repr(value)
    return text if len(text) <= _WIDTH and "\n" not in text else f"a {type(value).__name__}"


def require_count(name: str, value: Any, least: int) -> None:
    """Raises InputError where a value is no whole number, or one that is too small or has no place in a tensor.

    Examples:
        >>> from ppl_vae.errors import require_count
        >>> require_count("particles", 0.5, 1)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: particles is 0.5; a whole number from 1 on is needed
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {shown(value)}; a whole number from {least} on is needed")
    if value > sys.maxsize:
        raise InputError(f"{name} is {shown(value)}; a whole number from {least} to {sys.maxsize} is needed")


def require_seed(seed: Any) -> None:
    """Raises InputError where a value can't seed the random numbers of Python, numpy and torch alike.

    Examples:
        >>> from ppl_vae.errors import require_seed
        >>> require_seed(-1)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: seed is -1; a whole number from 0 to 4294967295 is needed
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _SEEDS:
        raise InputError(f"seed is {shown(seed)}; a whole number from 0 to {_SEEDS - 1} is needed")


def is_number(value: Any) -> bool:
    """Says whether a value is one real number, and not NaN.

    Examples:
        >>> from ppl_vae.errors import is_number
        >>> is_number(1e-3), is_number(float("nan")), is_number(True)
        (True, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def require_rate(lr: Any) -> None:
    """Raises InputError where a value is no learning rate.

    Examples:
        >>> from ppl_vae.errors import require_rate
        >>> require_rate(0.0)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: lr is 0.0; a learning rate is above 0 and finite
    """
    if not is_number(lr) or not 0 < lr < math.inf:
        raise InputError(f"lr is {shown(lr)}; a learning rate is above 0 and finite")


class Abstract:
    """A base class that is there to be derived from, and says what a subclass has to define.

    A subclass that defines neither the method of ``_recipe`` nor a ``forward`` of its own is refused when the class is
    made, not in training; so is an instance of the base itself. A base for further bases is made with
    ``abstract=True``. (``abc.ABC`` is not to be had here: Pyro's modules have a metaclass of their own.)

    Examples:
        >>> from ppl_vae.programs import Guide
        >>> class Encoder(Guide):
        ...     pass
        Traceback (most recent call last):
        TypeError: Encoder has no posterior: define posterior(self, x, *given) or a forward of its own
    """

    _recipe: ClassVar[str]

    def __init_subclass__(cls, abstract: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        of_pyro = cls.__module__.partition(".")[0] == "pyro"  # PyroModule[...] derives from all bases of a module
        if not abstract and not of_pyro:
            cls._require_concrete()

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Makes an instance, but none of a class that lacks its density."""
        cls._require_concrete()
        return super().__new__(cls)

    @classmethod
    def _require_concrete(cls) -> None:
        recipes = [kind for kind in cls.__mro__ if issubclass(kind, Abstract) and "_recipe" in vars(kind)]
        base = recipes[0]
        method = base._recipe.partition("(")[0]
        others = {kind._recipe.partition("(")[0] for kind in recipes}
        if all(getattr(cls, name, None) is getattr(base, name, None) for name in others | {"forward"}):
            instead = "" if method == "forward" else " or a forward of its own"
            raise TypeError(f"{cls.__name__} has no {method}: define {base._recipe}{instead}")


class Outage(InputError):
    """Says that something outside failed, a full disk or a process that is gone: what was done until then is kept.

    Examples:
        >>> from ppl_vae.errors import InputError, Outage
        >>> issubclass(Outage, InputError)
        True
    """
