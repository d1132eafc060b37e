"""Calls from several threads: each gives what it gives alone, and nothing is left behind or waits for ever."""

import copy
import inspect
import os
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pyro
import pytest
import torch
from pyro.infer.util import is_validation_enabled

import ppl_vae
from ppl_vae import InputError, bounds, check, evidence, fit, log_weights
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.pairs import threads
from ppl_vae.pairs.threads import one_at_a_time

RUN_NO_PAIR = {"cooldown", "cosine", "cyclical", "freeze", "load", "load_pair", "no_guide", "open_run", "save_pair"}
RUN_NO_PAIR |= {"temperatures", "warm_up"}
PUBLIC = {name: getattr(home, name) for home in (ppl_vae, evidence) for name in home.__all__}
LONG = 6  # seconds after which a test that hangs fails


def pair_and_data(seed=0):
    torch.manual_seed(seed)
    pair = VAE(6, 2, hidden=(4,)), Amortized(Diagonal(2), 6, hidden=(4,))
    return *pair, torch.full((20, 6), 0.4).bernoulli()


@pytest.mark.parametrize("name", sorted(name for name, public in PUBLIC.items() if inspect.isfunction(public)))
def test_every_public_function_that_runs_a_pair_waits_its_turn(name, monkeypatch):
    class Lock:
        taken = 0

        def __enter__(self):
            self.taken += 1

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(threads._turn, "lock", Lock())
    if name not in RUN_NO_PAIR:
        with pytest.raises(TypeError, match="missing"):
            PUBLIC[name]()
    assert threads._turn.lock.taken == (name not in RUN_NO_PAIR)


def work(seed):
    """Some calls on a pair of their own, each with a seed."""
    model, guide, x = pair_and_data(seed)

    def run():
        elbos = fit(model, guide, x, seed=seed, epochs=3, batch_size=7, capture=seed % 2 == 0, progress=False).elbo
        found = bounds(model, guide, x, particles=30, seed=seed, progress=False)
        weights = log_weights(model, guide, x, particles=3, seed=seed)
        return elbos, found.iwelbo.values.tolist(), weights.tolist(), check(model, guide, x)

    return run


@pytest.mark.parametrize("count", [2, 4])
def test_threads_give_what_each_gives_alone(count):
    alone = [work(seed)() for seed in range(count)]
    ready, start = [work(seed) for seed in range(count)], threading.Barrier(count)

    def together(run):
        start.wait(LONG)
        return run()

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(together, ready)) == alone
    assert is_validation_enabled()
    assert torch.distributions.Distribution._validate_args
    assert not pyro.poutine.runtime._PYRO_STACK


def test_a_call_from_within_a_call_goes_on():
    model, guide, x = pair_and_data()
    elbos = []

    def measure(epoch):
        elbos.append(float(bounds(model, guide, x, particles=2, progress=False).elbo.mean()))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(fit, model, guide, x, epochs=2, after_epoch=measure, progress=False).result(LONG)
    assert len(elbos) == 2


def test_an_error_in_one_thread_leaves_the_others_what_they_need():
    model, guide, x = pair_and_data()
    bad = x.clone()
    bad[3] = torch.nan
    expected = bounds(model, guide, x, particles=2, seed=0, progress=False)
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(bounds, model, guide, data, particles=2, seed=0, progress=False) for data in (bad, x, bad, x)
        ]
        with pytest.raises(InputError, match="NaN"):
            calls[0].result(LONG)
        assert calls[1].result(LONG).equals(expected)
        assert calls[3].result(LONG).equals(expected)
    assert is_validation_enabled()
    assert threads._turn.holder is None


class Held:
    """A thread that is in a function which runs a pair, until it is told to leave."""

    def __enter__(self):
        self.inside, self.leave = threading.Event(), threading.Event()

        @one_at_a_time
        def training():
            self.inside.set()
            self.leave.wait(LONG)

        self.thread = threading.Thread(target=training, name="the trainer")
        self.thread.start()
        assert self.inside.wait(LONG)
        return self

    def __exit__(self, *_):
        self.leave.set()
        self.thread.join(LONG)


@one_at_a_time
def measuring():
    return "measured"


def test_who_waits_for_long_says_for_whom(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    with warnings.catch_warnings(record=True) as told, Held() as held:
        warnings.simplefilter("always")
        tell = threads._tell

        def let_go(*given):
            tell(*given)
            held.leave.set()

        monkeypatch.setattr(threads, "_tell", let_go)
        assert measuring() == "measured"
    assert [str(one.message).partition(",")[0] for one in told] == ["measuring waits for the thread 'the trainer'"]
    assert "which is in training" in str(told[0].message)


def test_a_thread_that_a_program_waits_for_is_told_to_be_in_the_way(monkeypatch):
    """A model that measures in a pool of threads and waits for them never ends; it is said why."""
    model, guide, x = pair_and_data()
    stuck = threading.Event()
    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    monkeypatch.setattr(threads, "_tell", lambda *given: stuck.set())
    pools = ThreadPoolExecutor(1)

    class Pooled(VAE):
        def likelihood(self, z, *given):
            if not stuck.is_set():
                self.call = pools.submit(measuring)
                assert stuck.wait(LONG)  # and not self.call.result(), which would wait for ever
            return super().likelihood(z, *given)

    pooled = Pooled(6, 2, hidden=(4,))
    pooled.load_state_dict(copy.deepcopy(model.state_dict()))
    log_weights(pooled, guide, x)
    pools.shutdown(wait=True)
    assert stuck.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_a_thread_that_it_has_not():
    with Held():
        child = os.fork()
        if not child:
            signal.alarm(LONG)  # it ends a child that waits
            os._exit(0 if measuring() == "measured" else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_ctrl_c_ends_the_wait(monkeypatch):
    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    monkeypatch.setattr(threads, "_tell", lambda *given: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
    try:
        with Held(), pytest.raises(KeyboardInterrupt):
            measuring()
    finally:
        signal.signal(signal.SIGINT, before)
    assert measuring() == "measured"
    assert threads._turn.holder is None
