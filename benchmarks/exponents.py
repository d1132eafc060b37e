"""How a cost grows: the slope of its logarithm by that of the size, with its standard error."""

import math
from collections.abc import Sequence

from scipy.stats import linregress

FLAT = 1.25  # a cost within this factor of the smallest one has not grown yet


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> dict[str, float | None]:
    """Fits a power of the size to the costs by least squares on the logarithms of both, over the sizes where they grow.

    Those are the sizes after the last one whose cost is near the smallest, and at least the last three; all sizes where
    none costs more than that.

    Returns:
        The exponent (0: constant, 1: linear), its standard error (of the scatter about the line), the size that the
        line begins at; nothing where a cost is 0.
    """
    if min(costs) <= 0:
        return {"exponent": None, "standard_error": None, "from": None}
    begins = 1 + max(number for number, cost in enumerate(costs) if cost <= FLAT * min(costs))
    begins = 0 if begins == len(costs) else min(begins, len(costs) - 3)
    x, y = ([math.log(value) for value in values[begins:]] for values in (sizes, costs))
    line = linregress(x, y)
    return {
        "exponent": round(float(line.slope), 3),
        "standard_error": round(float(line.stderr), 3) if len(x) > 2 else None,
        "from": sizes[begins],
    }
