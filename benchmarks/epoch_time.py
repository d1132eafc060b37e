"""An epoch of MNIST with its data path: this project's ``fit`` against Pyro's VAE example, and against NumPyro.

One other side is the example as Pyro has it: torchvision's MNIST with ``ToTensor``, a ``DataLoader`` of 256 images that
are put together one by one, 50 latents, 400 softplus units, ``SVI.step`` with ``Trace_ELBO`` and Adam. This side trains
the same networks on batches as large, which live on the device and are binarized anew, a step that the example leaves
out; and once more with a ``DataLoader``.

The other is NumPyro with the whole epoch in one jitted ``lax.scan``, binarization inside, as its VAE example has it; it
takes part where NumPyro is installed. Its epoch is of 784-400-20 with ReLU and batches of 128, beside a hand-written
PyTorch loop of the same.
Epochs are interleaved; medians and their ratios are printed as JSON.

    python benchmarks/epoch_time.py --data-root data
    python benchmarks/epoch_time.py --data-root data --scan
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import pyro
import pyro.distributions as dist
import step_time
import torch
from interleaved import interleaved, medians, ratios
from pyro.infer import SVI, Trace_ELBO
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from ppl_vae import fit, load
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.networks import JointMLP
from ppl_vae.pairs.modules import Program
from ppl_vae.training.capture import Capture
from ppl_vae.training.precision import Precision

BATCH, LATENT, HIDDEN, PIXELS = 256, 50, 400, 784
SCANNED = 128  # the batch size beside NumPyro


class Example(nn.Module):
    """The usual tutorial: two small networks, a model and a guide as methods."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Softplus(), nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())
        self.hidden = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Softplus())
        self.loc, self.log_scale = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

    def model(self, x: Tensor) -> None:
        """p(x, z)."""
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            zeros, ones = x.new_zeros(len(x), LATENT), x.new_ones(len(x), LATENT)
            z = pyro.sample("latent", dist.Normal(zeros, ones).to_event(1))
            pixels = dist.Bernoulli(self.decoder(z), validate_args=False).to_event(1)
            pyro.sample("obs", pixels, obs=x.reshape(-1, PIXELS))

    def guide(self, x: Tensor) -> None:
        """q(z | x)."""
        pyro.module("encoder", nn.ModuleList([self.hidden, self.loc, self.log_scale]))
        with pyro.plate("data", len(x)):
            hidden = self.hidden(x.reshape(-1, PIXELS))
            pyro.sample("latent", dist.Normal(self.loc(hidden), self.log_scale(hidden).exp()).to_event(1))


def example(root: str, device: str) -> Callable[[], float]:
    """An epoch of the tutorial."""
    pyro.clear_param_store()
    loader = DataLoader(MNIST(root, train=True, transform=ToTensor()), batch_size=BATCH, shuffle=True)
    pair = Example().to(device)
    svi = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 1e-3}), Trace_ELBO())

    def epoch() -> float:
        start, total = time.perf_counter(), 0.0
        for x, _ in loader:
            total += svi.step(x.to(device))
        return time.perf_counter() - start

    return epoch


def pair() -> tuple[Program, Program]:
    """The example's networks, in this project's model and guide."""
    network = partial(JointMLP, activation_layer=nn.Softplus)
    model = VAE(PIXELS, LATENT, decoder=network(LATENT, [HIDDEN, PIXELS]))
    return model, Amortized(Diagonal(LATENT), encoder=network(PIXELS, [HIDDEN, 2 * LATENT]))


def ours(
    source: Tensor | DataLoader,
    programs: tuple[Program, Program],
    capture: Capture,
    precision: Precision = "float32",
    transform: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = BATCH,
) -> Callable[[], float]:
    """The median of three epochs of ``fit``; the first one traces, or compiles."""

    def epoch() -> float:
        with pyro.get_param_store().scope():  # the other side has networks of the same names there
            found = fit(
                *programs,
                source,
                elbo=Trace_ELBO(),
                optimizer=partial(torch.optim.Adam, lr=1e-3, fused=True),
                epochs=3,
                batch_size=batch_size,
                transform=transform,
                progress=False,
                capture=capture,
                precision=precision,
            )
        return statistics.median(found.seconds)

    return epoch


def hand_written_epoch(train: Tensor) -> Callable[[], float]:
    """An epoch of the eager loop that one writes without a library."""
    torch.manual_seed(0)
    model = step_time.HandWritten(HIDDEN)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def epoch() -> float:
        start = time.perf_counter()
        total = 0.0
        for rows in torch.randperm(len(train)).split(SCANNED):
            optimizer.zero_grad(set_to_none=True)
            loss = model(torch.bernoulli(train[rows]))
            loss.backward()
            optimizer.step()
            total += float(loss)
        return time.perf_counter() - start

    return epoch


def scanned(train: Tensor) -> Callable[[], float]:
    """An epoch of NumPyro, all of it in one compiled loop."""
    import jax
    from jax import lax, random

    svi = step_time.numpyro_svi(HIDDEN)
    images = jax.numpy.asarray(train.numpy())
    state = svi.init(random.PRNGKey(0), images[:SCANNED])

    @jax.jit
    def whole(state: object, key: jax.Array) -> tuple[object, jax.Array]:
        order = random.permutation(key, len(images))
        batches = order[: len(order) // SCANNED * SCANNED].reshape(-1, SCANNED)

        def step(carried: tuple[object, jax.Array], rows: jax.Array) -> tuple[tuple[object, jax.Array], jax.Array]:
            state, key = carried
            key, now = random.split(key)
            state, loss = svi.update(state, random.bernoulli(now, images[rows]).astype(images.dtype))
            return (state, key), loss

        (state, _), losses = lax.scan(step, (state, key), batches)
        return state, losses.sum()

    state, _ = whole(state, random.PRNGKey(1))  # which compiles it
    number = 1

    def epoch() -> float:
        nonlocal state, number
        number += 1
        start = time.perf_counter()
        state, loss = whole(state, random.PRNGKey(number))
        loss.block_until_ready()
        return time.perf_counter() - start

    return epoch


def whole_epochs(train: Tensor) -> dict[str, Callable[[], float]]:
    """The sides that train 784-400-20 on batches of 128."""
    ours_of = partial(ours, train, transform=torch.bernoulli, batch_size=SCANNED)
    sides = {
        "hand-written": hand_written_epoch(train),
        "ppl_vae": ours_of(step_time.pair(HIDDEN, "cpu"), True),
        "ppl_vae, compiled": ours_of(step_time.pair(HIDDEN, "cpu"), "compile"),
    }
    try:
        sides["NumPyro, scanned"] = scanned(train)
    except ImportError:
        print("NumPyro is not installed", file=sys.stderr)
    return sides


def main(data_root: str, rounds: int, scan: bool) -> None:
    """Times every side in turn."""
    pyro.enable_validation(False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = load("mnist", data_root).train
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}"
    if scan:
        times = interleaved(whole_epochs(train), rounds)
        found = {"seconds": medians(times, 2), "ratio to hand-written": ratios(times, "hand-written", 3)}
        print(json.dumps({"machine": machine} | found, indent=2))
        return
    tutorial, loader = Example(), DataLoader(TensorDataset(train), batch_size=BATCH, shuffle=True)
    anew = partial(ours, train, transform=torch.bernoulli)
    sides = {
        "Pyro's example": example(data_root, device),
        "ppl_vae": anew(pair(), True),
        "ppl_vae, uncaptured": anew(pair(), False),
        "ppl_vae, compiled": anew(pair(), "compile"),
        "ppl_vae, compiled, bf16": anew(pair(), "compile", "bf16"),
        "ppl_vae, DataLoader": ours(loader, pair(), True, transform=torch.bernoulli),
        "the example's program by fit": anew((tutorial.model, tutorial.guide), True),
        "the example's program by fit, compiled": anew((tutorial.model, tutorial.guide), "compile"),
    }
    times = interleaved(sides, rounds)
    base = times["Pyro's example"]
    result = {
        "machine": machine,
        "seconds": medians(times, 2),
        "times as fast as Pyro's example": {
            name: round(statistics.median(b / a for a, b in zip(found, base, strict=True)), 2)
            for name, found in times.items()
        },
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", default=os.environ.get("PPL_VAE_DATA", "data"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scan", action="store_true", help="784-400-20 beside NumPyro with the epoch in one scan")
    main(**vars(parser.parse_args()))
