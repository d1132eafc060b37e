"""Tiny numbers are 0 in all threads while a pair is trained, and not afterwards."""

import torch

from ppl_vae.training.denormals import denormals_flushed

CPU = torch.device("cpu")


def flushed() -> list[bool]:
    """Whether each tenth of a tensor, which all threads share, lost its tiny numbers."""
    return [bool((part == 0).all()) for part in (torch.full((1_000_000,), 1e-39) * 1.0).chunk(10)]


def test_all_threads_flush_inside_and_none_outside():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert not any(flushed())  # and the threads work
        with denormals_flushed(CPU):
            assert all(flushed())
            with denormals_flushed(CPU):
                assert all(flushed())
            assert all(flushed())
        assert not any(flushed())
    finally:
        torch.set_num_threads(threads)


def test_an_error_ends_it_too():
    try:
        with denormals_flushed(CPU):
            raise ValueError
    except ValueError:
        pass
    assert not any(flushed())
