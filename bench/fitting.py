"""How a cost grows with a size: the exponent of the power that fits it best. Values only.

On log axes a power ``factor * size ** exponent`` is a line, and its slope the exponent: 0 is a cost that does
not depend on the size, 1 one that is in proportion, and what is above 1 ends every climb some day.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

LEAST_SIZES = 3  # a line through two points fits always, and tells nothing


@dataclass(frozen=True)
class Fit:
    """The power that fits some costs.

    Parameters
    ----------
    exponent
        Of the line through all sizes (least squares of the logarithms).
    factor
        The cost of size 1 on that line.
    last
        The exponent between the two largest sizes alone. A cost that each size has, such as the start of a
        process, flattens the small end of the line; what comes beyond the measured sizes is told by this.
    """

    exponent: float
    factor: float
    last: float

    def at(self, size: float) -> float:
        """Return the cost of a size on the line."""
        return float(self.factor * size**self.exponent)


def fitted(costs: Mapping[float, float]) -> Fit | None:
    """Return the power that fits costs by their sizes.

    Sizes and costs that are not above 0 have no logarithm and are left out: a cost below what a clock can
    tell says nothing of its growth. None where fewer than three sizes remain.
    """
    found = sorted((math.log(size), math.log(cost)) for size, cost in costs.items() if size > 0 and cost > 0)
    if len(found) < LEAST_SIZES:
        return None
    slope, intercept = statistics.linear_regression(*zip(*found, strict=True))
    (size, cost), (largest, most) = found[-2:]
    return Fit(slope, math.exp(intercept), (most - cost) / (largest - size))
