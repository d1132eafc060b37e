"""Evidence throughput: 5000 particles an image, against what the decoder's own matrix products allow.

Both sides are interleaved in one run: `bounds` over some images, and the decoder's three matrix products alone over as
many latents, in chunks of whatever size is fastest for them. Prints medians and their ratio as JSON.

    python benchmarks/evidence.py
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch

from ppl_vae import bounds
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE

LATENT, HIDDEN, PIXELS = 32, 400, 784
CHUNKS = (512, 1024, 2048, 4096, 8192, 16384)


def seconds(task: Callable[[], object]) -> float:
    """Wall-clock time of one call, the device's work included."""
    start = time.perf_counter()
    task()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(images: int = 200, particles: int = 5000, repeats: int = 7) -> None:
    """Times both sides in turn."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, guide = VAE(PIXELS, LATENT).to(device), Amortized(Diagonal(LATENT), PIXELS).to(device)
    x = torch.rand(images, PIXELS, device=device).bernoulli()
    layers = [layer.weight.detach().T.contiguous() for layer in model.decoder if isinstance(layer, torch.nn.Linear)]
    count = images * particles

    def products(chunk: int) -> None:
        z = torch.randn(chunk, LATENT, device=device)
        for _ in range(max(1, round(count / chunk))):
            value = z
            for layer in layers:
                value = value @ layer

    def evidence() -> None:
        bounds(model, guide, x, particles=particles, curve=(particles,))

    best = min(CHUNKS, key=lambda chunk: statistics.median(seconds(lambda: products(chunk)) for _ in range(2)))
    evidence()
    ours, theirs = [], []
    for _ in range(repeats):
        ours.append(seconds(evidence))
        theirs.append(seconds(lambda: products(best)))
    flops = 2 * count * sum(layer.numel() for layer in layers)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}, torch {torch.__version__}",
        "images": images,
        "particles": particles,
        "evidence_seconds": statistics.median(ours),
        "matrix_products_seconds": statistics.median(theirs),
        "matrix_products_chunk": best,
        "matrix_products_gflops": flops / statistics.median(theirs) / 1e9,
        "ratio": statistics.median(other / own for own, other in zip(ours, theirs, strict=True)),
        "seconds_for_10000_images": statistics.median(ours) * 10000 / images,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=7)
    main(**vars(parser.parse_args()))
