"""How a cost grows: the slope of its logarithm by that of the size, with its standard error."""

import math
from collections.abc import Sequence

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
    middle, height = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    slope = sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / spread
    off = sum((b - height - slope * (a - middle)) ** 2 for a, b in zip(x, y, strict=True))
    error = math.sqrt(off / (len(x) - 2) / spread) if len(x) > 2 else None
    return {
        "exponent": round(slope, 3),
        "standard_error": None if error is None else round(error, 3),
        "from": sizes[begins],
    }
