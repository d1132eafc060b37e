"""The random numbers of each test start from the same seed, and the global store from nothing.

One thread: the tensors are too small to be shared out, and threads that wait for each other cost a busy machine dearly.
"""

import os

import pyro
import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fresh_start():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    torch.set_default_dtype(torch.float32)
