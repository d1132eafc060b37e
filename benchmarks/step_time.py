"""A training step of one VAE: this project against hand-written PyTorch, Pyro's SVI and NumPyro.

All sides train the same 784-H-20-H-784 VAE on the same bits with Adam, in one process, interleaved: a few steps of
each in turn, many rounds. Printed as JSON: each side's median milliseconds a step, and the median over rounds of its
ratio to hand-written eager PyTorch. NumPyro takes part where it is installed.

    python benchmarks/step_time.py --sizes 20x200,128x400
"""

import argparse
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import pyro
import torch
import torch.nn.functional as functional
from pyro.infer import SVI, JitTrace_ELBO, Trace_ELBO
from torch import Tensor, nn
from torch.optim import Adam

from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.training.capture import Step
from ppl_vae.training.cuda_graphs import CudaGraph, make_capturable
from ppl_vae.training.gradients import Gradients
from ppl_vae.training.updates import Updates

PIXELS, LATENT = 784, 20
Side = Callable[[Tensor], object]


class HandWritten(nn.Module):
    """The VAE as one writes it without a library: sampled KL, as Trace_ELBO has it."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(PIXELS, hidden), nn.ReLU())
        self.loc, self.raw = nn.Linear(hidden, LATENT), nn.Linear(hidden, LATENT)
        self.decoder = nn.Sequential(nn.Linear(LATENT, hidden), nn.ReLU(), nn.Linear(hidden, PIXELS))

    def forward(self, x: Tensor) -> Tensor:
        """The loss, summed over the batch."""
        hidden = self.encoder(x)
        loc, scale = self.loc(hidden), functional.softplus(self.raw(hidden)) + 1e-6
        noise = torch.randn_like(loc)
        z = loc + scale * noise
        log_q = -0.5 * noise.square().sum() - scale.log().sum()
        distortion = functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
        return distortion + log_q + 0.5 * z.square().sum()


def hand_written(hidden: int, device: str, compiled: bool = False) -> Side:
    """Eager, or with torch.compile around the model."""
    torch.manual_seed(0)
    model = HandWritten(hidden).to(device)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    loss: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False) if compiled else model

    def step(x: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    return step


def hand_written_graph(hidden: int) -> Side:
    """The whole step as one CUDA graph."""
    torch.manual_seed(0)
    model = HandWritten(hidden).cuda()
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True, capturable=True)
    graph: CudaGraph | None = None

    def whole(x: Tensor) -> tuple[Tensor]:
        optimizer.zero_grad(set_to_none=True)
        loss = model(x)
        loss.backward()
        optimizer.step()
        return (loss,)

    def step(x: Tensor) -> None:
        nonlocal graph
        graph = graph or CudaGraph(whole, (x,))
        graph(x)

    return step


def pair(hidden: int, device: str) -> tuple[VAE, Amortized]:
    """The same as a Pyro pair."""
    torch.manual_seed(0)
    model, guide = VAE(PIXELS, LATENT, hidden=(hidden,)), Amortized(Diagonal(LATENT), PIXELS, hidden=(hidden,))
    return model.to(device), guide.to(device)


def ours(hidden: int, device: str, capture: bool | str) -> Side:
    """A step of ``fit``: uncaptured, captured or compiled."""
    model, guide = pair(hidden, device)
    leaves = [*model.parameters(), *guide.parameters()]
    optimizer = Adam(leaves, lr=1e-3, fused=True)
    updates = Updates([optimizer], in_graph=device == "cuda" and bool(capture) and make_capturable([optimizer]))

    def anchored(x: Tensor) -> None:
        pyro.param("anchor", torch.zeros(()))
        guide(x)

    gradients = Gradients(Trace_ELBO(), model, anchored, leaves, [model, guide])
    run = Step(gradients, capture, 10**6, updates)  # type: ignore[arg-type]

    def step(x: Tensor) -> None:
        with local_parameters(model, guide):
            run((x,), rare=False)
        updates.finish()

    return step


def svi(hidden: int, device: str, elbo: Trace_ELBO) -> Side:
    """Pyro as its tutorials have it."""
    pyro.clear_param_store()
    model, guide = pair(hidden, device)
    made = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo)
    return made.step


def numpyro_svi(hidden: int) -> Any:
    """The same VAE in NumPyro."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from jax.example_libraries import stax
    from numpyro.infer import SVI as JaxSVI
    from numpyro.infer import Trace_ELBO as JaxELBO

    def encoder() -> object:
        heads = stax.parallel(stax.Dense(LATENT), stax.serial(stax.Dense(LATENT), stax.Softplus))
        return stax.serial(stax.Dense(hidden), stax.Relu, stax.FanOut(2), heads)

    decoder = stax.serial(stax.Dense(hidden), stax.Relu, stax.Dense(PIXELS))

    def model(x: jax.Array) -> None:
        decode = numpyro.module("decoder", decoder, (len(x), LATENT))
        with numpyro.plate("data", len(x)):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([LATENT]).to_event(1))
            numpyro.sample("x", dist.Bernoulli(logits=decode(z)).to_event(1), obs=x)

    def guide(x: jax.Array) -> None:
        encode = numpyro.module("encoder", encoder(), (len(x), PIXELS))
        loc, scale = encode(x)
        with numpyro.plate("data", len(x)):
            numpyro.sample("z", dist.Normal(loc, scale + 1e-6).to_event(1))

    return JaxSVI(model, guide, numpyro.optim.Adam(1e-3), JaxELBO())


def numpyro_jitted(hidden: int) -> Side:
    """Its whole update jitted; the bits are handed over as they are."""
    import jax
    from jax import random

    made = numpyro_svi(hidden)
    update, state = jax.jit(made.update), None

    def step(x: Tensor) -> None:
        nonlocal state
        batch = jax.numpy.asarray(x.cpu().numpy())
        state = made.init(random.PRNGKey(0), batch) if state is None else state
        state, loss = update(state, batch)
        loss.block_until_ready()

    return step


def measure(batch: int, hidden: int, rounds: int, compiled: bool, device: str) -> dict[str, object]:
    """Every side at one size."""
    makers: dict[str, Callable[[], Side]] = {
        "hand-written, eager": lambda: hand_written(hidden, device),
        "ppl_vae, uncaptured": lambda: ours(hidden, device, False),
        "ppl_vae, captured": lambda: ours(hidden, device, True),
        "SVI.step, Trace_ELBO": lambda: svi(hidden, device, Trace_ELBO()),
        "SVI.step, JitTrace_ELBO": lambda: svi(hidden, device, JitTrace_ELBO()),
        "numpyro, jitted": lambda: numpyro_jitted(hidden),
    }
    if device == "cuda":
        makers["hand-written, CUDA graph"] = lambda: hand_written_graph(hidden)
    if compiled:
        makers["hand-written, compiled"] = lambda: hand_written(hidden, device, compiled=True)
        makers["ppl_vae, compiled"] = lambda: ours(hidden, device, "compile")
    data = torch.rand(8, batch, PIXELS, device=device).bernoulli()
    sides: dict[str, Side] = {}
    compile_seconds: dict[str, float] = {}
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            side = make()
            for number in range(8):
                side(data[number])
        except ImportError:
            print(f"{name}: not installed", file=sys.stderr)
            continue
        sides[name] = side
        compile_seconds[name] = round(time.perf_counter() - start, 2)
    times: dict[str, list[float]] = {name: [] for name in sides}
    steps = max(4, min(60, 4000 // batch))
    order = list(sides)
    for turn in range(rounds):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            sides[name](data[0])  # the caches are the side's own again
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            for number in range(steps):
                sides[name](data[number % 8])
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append((time.perf_counter() - start) / steps)
    base = times["hand-written, eager"]
    return {
        "batch": batch,
        "hidden": hidden,
        "milliseconds": {name: round(1000 * statistics.median(found), 4) for name, found in times.items()},
        "ratio to hand-written, eager": {
            name: round(statistics.median(a / b for a, b in zip(found, base, strict=True)), 3)
            for name, found in times.items()
        },
        "seconds for the first 8 steps": compile_seconds,
    }


def main(sizes: str, rounds: int, compiled: bool) -> None:
    """Prints the table as JSON."""
    warnings.simplefilter("ignore")
    pyro.enable_validation(False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = []
    for size in sizes.split(","):
        batch, hidden = (int(part) for part in size.split("x"))
        found.append(measure(batch, hidden, rounds, compiled, device))
        print(json.dumps(found[-1], indent=2), file=sys.stderr, flush=True)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}"
    print(json.dumps({"machine": machine, "sizes": found}, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = ",".join(f"{batch}x{hidden}" for batch in (20, 128, 512) for hidden in (200, 400, 2000))
    parser.add_argument("--sizes", default=every, help="batch x hidden units, comma-separated")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compiled", action="store_true", help="the two compiled sides too (minutes)")
    main(**vars(parser.parse_args()))
