"""When something that stands for something else is compared with it."""

# From one comparison to the next, at most; a power of two, as the rhythm needs. A run of a program costs some five
# replays of its graph where the graph is large, and up to eighty where it is small: a hundredth of a long training.
SELDOM = 4096


def is_compared(count: int) -> bool:
    """Says whether the ``count``-th use is compared: the 1st, 2nd, 4th, 8th, ... and from 4096 on each 4096th.

    What nothing else notices, a counter in a file say, often changes most in the first steps: it is found there while
    few steps are wrong. Counts decide, no clock, so that the same seed gives the same numbers on a busy machine.
    """
    return SELDOM % count == 0 or count % SELDOM == 0
