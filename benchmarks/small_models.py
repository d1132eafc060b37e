"""A step of a small model: eight schools under AutoNormal, by this project, Pyro's SVI and NumPyro's ``svi.run``.

All data are in each step, as in most scripts of stochastic variational inference. A side's time is marginal: the
difference between a long run and a short one, by the steps between them, so that tracing and compiling cancel. Sides
are interleaved; median microseconds a step, and the median over rounds of the ratio to ``SVI.step``, are printed as
JSON. NumPyro takes part where it is installed.

    python benchmarks/small_models.py
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial

import pyro
import torch
from interleaved import interleaved, medians, ratios
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal

from ppl_vae import fit
from ppl_vae.models import EightSchools
from ppl_vae.training.capture import Capture

SHORT, LONG, LR = 600, 3600, 0.01
LONGER = 60_000  # of a compiled side: what its compiler takes from run to run differs by more than 3000 of its steps
Run = Callable[[int], object]


def by_fit(capture: Capture, steps: int) -> None:
    """So many epochs of one step."""
    model = EightSchools()
    data = model.example_data()
    fit(model, AutoNormal(model), data, epochs=steps, lr=LR, capture=capture, progress=False, seed=0)


def by_svi(steps: int) -> None:
    """The loop of Pyro's tutorials."""
    pyro.clear_param_store()
    model = EightSchools()
    data = model.example_data()
    svi = SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": LR}), Trace_ELBO())
    for _ in range(steps):
        svi.step(*data)


def numpyro_run() -> Run:
    """The same non-centered model in NumPyro, all steps in one compiled loop."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from jax import random
    from numpyro.infer import SVI as JaxSVI
    from numpyro.infer import Trace_ELBO as JaxELBO
    from numpyro.infer.autoguide import AutoNormal as JaxNormal

    x, sigma = (jax.numpy.asarray(part.numpy()) for part in EightSchools.example_data())

    def model(x: jax.Array, sigma: jax.Array) -> None:
        mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
        with numpyro.plate("data", len(x)):
            raw = numpyro.sample("theta_raw", dist.Normal(0.0, 1.0))
            numpyro.sample("x", dist.Normal(mu + tau * raw, sigma), obs=x)

    svi = JaxSVI(model, JaxNormal(model), numpyro.optim.Adam(LR), JaxELBO())

    def run(steps: int) -> None:
        found = svi.run(random.PRNGKey(0), steps, x, sigma, progress_bar=False)
        found.losses.block_until_ready()

    return run


def marginal(run: Run, most: int = LONG) -> float:
    """Microseconds of a step."""
    seconds = []
    for steps in (SHORT, most):
        start = time.perf_counter()
        run(steps)
        seconds.append(time.perf_counter() - start)
    return 1e6 * (seconds[1] - seconds[0]) / (most - SHORT)


def main(rounds: int, compiled: bool) -> None:
    """Times every side in turn."""
    pyro.enable_validation(False)
    sides = {
        "SVI.step": partial(marginal, by_svi),
        "ppl_vae, uncaptured": partial(marginal, partial(by_fit, False)),
        "ppl_vae, captured": partial(marginal, partial(by_fit, True)),
    }
    if compiled:
        sides["ppl_vae, compiled"] = partial(marginal, partial(by_fit, "compile"), LONGER)
    try:
        sides["NumPyro, svi.run"] = partial(marginal, numpyro_run(), LONGER)
    except ImportError:
        print("NumPyro is not installed", file=sys.stderr)
    times = interleaved(sides, rounds)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "microseconds a step": medians(times, 1),
        "ratio to SVI.step": ratios(times, "SVI.step", 4),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiled", action="store_true", help="the compiled side too")
    main(**vars(parser.parse_args()))
