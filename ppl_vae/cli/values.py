"""What the text of an option means in Python, and what is taken where nothing was typed."""

from typing import TYPE_CHECKING

from ppl_vae.errors import InputError

if TYPE_CHECKING:
    from ppl_vae.data.images import Images
    from ppl_vae.training.capture import Capture

BATCH_SIZE = 128  # of images
CAPTURES: dict[str, "Capture"] = {"auto": "auto", "true": True, "false": False, "compile": "compile"}


def names(text: str) -> list[str]:
    """The names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def widths(hidden: str) -> tuple[int, ...]:
    """The numbers in ``--hidden``."""
    try:
        numbers = tuple(int(width) for width in names(hidden))
    except ValueError:
        numbers = (0,)
    if any(width < 1 for width in numbers):
        raise InputError(f"--hidden is {hidden!r}; expected widths above 0, comma-separated, such as 400,400")
    return numbers


def counts(text: str, option: str) -> list[int]:
    """Numbers above 0 from "2,10,50", in increasing order; InputError for anything else."""
    try:
        numbers = sorted({int(number) for number in names(text)})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise InputError(f"{option} is {text!r}; expected numbers above 0, comma-separated, such as 2,10,50")
    return numbers


def default_epochs(source: "Images") -> int:
    """As many epochs as make about 1.2 million images, 200 at most."""
    return max(1, min(200, round(1_200_000 / len(source.train))))
