"""The random numbers of each test start from the same seed, and the global store from nothing."""

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def _fresh_start():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    torch.set_default_dtype(torch.float32)
