"""A published figure, whole: the one-layer VAE of Burda et al. (2015, Table 1, k = 1), at the paper's length.

50 latents, two layers of 200 tanh units on each side, MNIST binarized anew at each draw, batches of 20, Adam with
epsilon 1e-4, and 3280 epochs whose learning rate falls from 1e-3 to 1e-4 in eight stages of 1, 3, 9, ... 2187 epochs.
The paper reports a negative log-likelihood of 86.76 nats by IWELBO_5000 and 19 active units.

Measured on the test images, binarized once: IWELBO_5000, active units, and annealed importance sampling on the first
1000 images, beside IWELBO_5000 of the same. Prints them as JSON with the curve of the training. What is kept in the
checkpoint goes on where it was cut off, by the same command.

    python benchmarks/published.py --root DATA --checkpoint burda.pt
"""

import argparse
import json
import os
import platform
from functools import partial
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor, nn
from torch.optim import Adam

from ppl_vae import History, annealed, bounds, fit, information, load
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.networks import JointMLP

PIXELS, LATENT, HIDDEN, BATCH, STAGES = 784, 50, 200, 20, 8
EPOCHS = [3**stage for stage in range(STAGES)]
PARTICLES, ANNEALED = 5000, 1000
PUBLISHED = {"negative log-likelihood": 86.76, "active units": 19}


def rate(done: float) -> float:
    """The factor 10^(-i / 7) on the learning rate in stage i, which has 3^i epochs."""
    epoch, stage = done * sum(EPOCHS) + 1e-6, 0
    while stage < STAGES - 1 and epoch >= sum(EPOCHS[: stage + 1]):
        stage += 1
    return float(10 ** (-stage / (STAGES - 1)))


def network(*widths: int) -> JointMLP:
    """Layers with tanh between them, started as Glorot & Bengio (2010) do."""
    made = JointMLP(widths[0], list(widths[1:]), activation_layer=nn.Tanh)
    for layer in made:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return made


def pair(train: Tensor) -> tuple[VAE, Amortized]:
    """The paper's model and guide; the decoder starts at the mean image."""
    torch.manual_seed(0)
    decoder = network(LATENT, HIDDEN, HIDDEN, PIXELS)
    with torch.no_grad():
        decoder.output.bias.copy_(train.mean(0).clamp(1e-3, 1 - 1e-3).logit())
    encoder = network(PIXELS, HIDDEN, HIDDEN, 2 * LATENT)
    return VAE(PIXELS, LATENT, decoder=decoder), Amortized(Diagonal(LATENT), PIXELS, encoder=encoder)


def figures(history: History, test: Tensor, model: VAE, guide: Amortized) -> dict[str, object]:
    """What the paper's table gives, measured on the test images."""
    evidence = bounds(model, guide, test, particles=PARTICLES, curve=(1, PARTICLES), seed=1)
    passed = information(model, guide, test, seed=2)
    chains = annealed(model, guide, test[:ANNEALED], steps=1000, chains=16, seed=3)
    importance = evidence.iwelbo.sel(K=PARTICLES)

    def mean(values: xr.DataArray) -> float:
        return round(float(values.mean()), 4)

    error = float((chains.log_evidence_se**2).sum() ** 0.5) / ANNEALED
    return {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "published": PUBLISHED,
        "epochs": len(history.elbo),
        "of": sum(EPOCHS),
        "hours": round(sum(history.seconds) / 3600, 2),
        "elbo": mean(evidence.elbo),
        "negative log-likelihood": -mean(importance),
        "active units": passed.attrs["active_units"],
        "rate": mean(passed.rate),
        "distortion": mean(passed.distortion),
        f"first {ANNEALED} images": {
            "iwelbo_5000": mean(importance[:ANNEALED]),
            "annealed": mean(chains.log_evidence),
            "annealed_se": round(error, 4),
            "acceptance": mean(chains.acceptance),
        },
        "training elbo": [round(elbo, 3) for elbo in history.elbo],
    }


def main(root: str, checkpoint: Path, until: int, threads: int, capture: str) -> None:
    """Trains, or goes on, and measures."""
    torch.set_num_threads(threads)
    images = load("mnist", root)
    model, guide = pair(images.train)
    history = fit(
        model,
        guide,
        images.train,
        optimizer=partial(Adam, lr=1e-3, eps=1e-4, fused=True),
        schedule=rate,
        epochs=sum(EPOCHS),
        batch_size=BATCH,
        transform=torch.bernoulli,
        capture="compile" if capture == "compile" else True,
        seed=0,
        checkpoint=checkpoint,
        after_epoch=lambda done: done >= until,
    )
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    print(json.dumps(figures(history, images.test.bernoulli(), model, guide), indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="data", help="where MNIST lies")
    parser.add_argument("--checkpoint", type=Path, default=Path("burda.pt"))
    parser.add_argument("--until", type=int, default=sum(EPOCHS), help="the epoch after which it stops and measures")
    parser.add_argument("--threads", type=int, default=1, help="a step is too small for more")
    parser.add_argument("--capture", choices=("replay", "compile"), default="compile")
    main(**vars(parser.parse_args()))
