"""Numbers near the smallest that a float can hold, which slow a CPU down: they are taken for 0 while a pair is trained.

The moments of Adam sink below 1e-38 where a pixel is always black, and the processor takes a hundred times as long for
such a number. It can take them for 0 instead, as JAX has it do: a mode that each thread sets for itself.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_PAUSE_HARD = 2  # omp_pause_hard in OpenMP 5.0, section 3.6: the runtime gives its threads up


@contextmanager
def denormals_flushed(device: torch.device) -> Iterator[None]:
    """Takes numbers below 1e-38 for 0 on a CPU, and leaves the mode as it was.

    New threads begin in the mode of the one that starts them, so those that work for torch already are given up, and
    torch starts others. Where they can't be given up, they stay as they are: slower, and right.
    """
    if device.type != "cpu" or _flushes() or not torch.set_flush_denormal(True):
        yield
        return
    _give_up_threads()
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        _give_up_threads()


def _flushes() -> bool:
    return float(torch.tensor(1e-39) * 1.0) == 0.0


def _give_up_threads() -> None:
    for library in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            ctypes.CDLL(str(library), mode=os.RTLD_NOLOAD | os.RTLD_NOW).omp_pause_resource_all(_PAUSE_HARD)
        except (OSError, AttributeError):
            continue
