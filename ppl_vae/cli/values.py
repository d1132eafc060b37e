"""What the text of an option means in Python, and what is taken where nothing was typed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ppl_vae.errors import InputError

if TYPE_CHECKING:
    from ppl_vae.cli.options import CompareOptions, TrainOptions
    from ppl_vae.data.images import Images
    from ppl_vae.training.capture import Capture
    from ppl_vae.training.optimizers import Schedule

BATCH_SIZE = 128  # of images
MOST = 2**31 - 1  # of any number: a seed, with a stop or a start added, stays one of numpy
CAPTURES: dict[str, "Capture"] = {"auto": "auto", "true": True, "false": False, "compile": "compile"}


def names(text: str, option: str) -> list[str]:
    """The names in a comma-separated list; InputError where it has none, or one twice."""
    found = _parts(text)
    if (text and not found) or len(set(found)) < len(found):
        raise InputError(f"{option} is {text!r}; expected names, comma-separated, each once: see `ppl-vae list`")
    return found


def widths(hidden: str) -> tuple[int, ...]:
    """The numbers in ``--hidden``."""
    return tuple(_numbers(hidden, "--hidden", "400,400"))


def counts(text: str, option: str) -> list[int]:
    """Numbers above 0 from "2,10,50", in increasing order; InputError for anything else."""
    numbers = sorted(set(_numbers(text, option, "2,10,50")))
    if not numbers:
        raise InputError(f"{option} is {text!r}; expected at least one number, such as 2,10,50")
    return numbers


def kl_weight(text: str) -> "float | Schedule":
    """The weight in "4", "warm-up", "warm-up:0.5", "cyclical" or "cyclical:0.5"."""
    from ppl_vae.training.objective import cyclical, warm_up

    name, colon, share = text.partition(":")
    made: Callable[..., Schedule] | None = {"warm-up": warm_up, "cyclical": cyclical}.get(name)
    try:
        if made is None:
            return float(text)
        return made(share=float(share)) if colon else made()
    except ValueError:  # no number, or one that is no share
        raise InputError(
            f"--kl-weight is {text!r}; expected a number from 0 on, warm-up or cyclical, or either with a share from 0 "
            "to 1 behind it, warm-up:0.5 say"
        ) from None


def objective(options: "TrainOptions | CompareOptions") -> dict[str, Any]:
    """What the options of a command say of the objective, as ``fit`` takes it."""
    return {"kl_weight": kl_weight(options.kl_weight), "free_bits": options.free_bits, "clip": options.clip}


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str, option: str, example: str) -> list[int]:
    try:
        numbers = [int(number) for number in _parts(text)]
    except ValueError:
        numbers = [0]
    if not all(1 <= number <= MOST for number in numbers):
        raise InputError(f"{option} is {text!r}; expected numbers from 1 to {MOST}, comma-separated, such as {example}")
    return numbers


def default_epochs(source: "Images") -> int:
    """As many epochs as make about 1.2 million images, 200 at most."""
    return max(1, min(200, round(1_200_000 / len(source.train))))
