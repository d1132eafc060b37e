"""Sides of a benchmark timed in turn, so that what else the machine does falls on all of them."""

import statistics
from collections.abc import Callable


def interleaved(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Times every side in turn, round after round; a side tells its own time."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(side())
    return times


def medians(times: dict[str, list[float]], digits: int) -> dict[str, float]:
    """Gives the median of each side's times."""
    return {name: round(statistics.median(found), digits) for name, found in times.items()}


def ratios(times: dict[str, list[float]], base: str, digits: int) -> dict[str, float]:
    """Gives the median over rounds of each side's time as a ratio to the base's."""
    return {
        name: round(statistics.median(a / b for a, b in zip(found, times[base], strict=True)), digits)
        for name, found in times.items()
    }
