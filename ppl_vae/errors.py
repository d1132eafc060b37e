"""What is refused, with a sentence that says how to mend it: bad input, and classes that lack what they are for."""

from typing import Any, ClassVar, Self


class InputError(ValueError):
    """Bad input: the message says what was given, what is expected and how to mend it.

    The command line shows the message alone, on one line, and ends with exit status 2.

    Examples:
        >>> from ppl_vae.guides import Diagonal
        >>> Diagonal(0)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: latent_dim is 0; Diagonal needs at least 1
    """


def require_count(name: str, value: Any, least: int) -> None:
    """Raises InputError where a value is no whole number, or too small a one.

    Examples:
        >>> from ppl_vae.errors import require_count
        >>> require_count("particles", 0.5, 1)
        Traceback (most recent call last):
        ppl_vae.errors.InputError: particles is 0.5; a whole number from 1 on is needed
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; a whole number from {least} on is needed")


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
