"""Where does the gap come from: is the family too small, or the encoder too weak? (Cremer, Li & Duvenaud 2018)

One model for each of two guides, diagonal and flow; on each, both guides' gaps are split into approximation (what the
family's best member leaves) and amortization (what the encoder adds to that), with log p(x) by importance weighting
and by annealing. The generalization part is the same on images that were not trained on.

    python examples/where_the_gap_comes_from.py --data mnist --epochs 20 --images 100
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn

from ppl_vae import Comparison, bounds, compare, cooldown, fit, freeze, generalization, load
from ppl_vae.cli import results
from ppl_vae.guides import IAF, Amortized, Diagonal
from ppl_vae.measure.bounds import average
from ppl_vae.models import VAE
from ppl_vae.networks import JointMLP
from ppl_vae.plots.gaps import khat_by_image, rate_distortion, stacked_gaps
from ppl_vae.runs.folder import begun

WIDTHS = (200, 200)
Binarize = Callable[[Tensor], Tensor]


def network(inputs: int, outputs: int) -> nn.Module:
    """200-200 ELU, as in the paper."""
    return JointMLP(inputs, [*WIDTHS, outputs], activation_layer=nn.ELU)


def both_guides(pixels: int, latents: int) -> dict[str, Amortized]:
    """A diagonal and a flow guide with encoders of the same size."""
    families = {"diagonal": Diagonal(latents), "flow": IAF(latents)}
    return {name: Amortized(family, encoder=network(pixels, family.num_params)) for name, family in families.items()}


def study(
    trained_with: str, train: Tensor, x: Tensor, binarize: Binarize, epochs: int, latents: int, anneal: int
) -> tuple[Comparison, Any]:
    """Trains a model with one guide, fits the other guide to it, and measures both on x."""
    torch.manual_seed(0)
    pixels = train.shape[1]
    model = VAE(pixels, latents, decoder=network(latents, pixels))
    guides = both_guides(pixels, latents)
    options: dict[str, Any] = {"transform": binarize, "schedule": cooldown, "batch_size": 100, "progress": False}
    elbos = {"diagonal": TraceMeanField_ELBO(), "flow": Trace_ELBO()}
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    for name in (trained_with, *(other for other in guides if other != trained_with)):
        fit(model, guides[name], train, elbo=elbos[name], optimizer=optimizer, epochs=epochs, seed=0, **options)
        freeze(model), freeze(guides[name])
    found = compare(
        model,
        guides,
        train,
        test=x,
        particles=1000,
        evidence="annealed",
        split=True,
        columns=(100, 1000),
        annealing={"steps": anneal},
        refinement={"steps": min(200, 10 * epochs), "rounds": 4, "particles": 16},
    )
    return found, (model, guides)


def above_half(x: Tensor) -> Tensor:
    """Pixels above 0.5, the same bits at each draw."""
    return (x > 0.5).float()


def main(
    data: str = "digits",
    threshold: bool = False,
    epochs: int = 20,
    images: int = 100,
    latents: int = 50,
    anneal: int = 500,
    run: str = "",
) -> None:
    """Prints one line for each model, writes it and the figures."""
    with begun(Path(run) if run else None, f"gaps-{data}", "examples/where_the_gap_comes_from.py", {}) as running:
        place = running.path
        source = load(data)
        images = min(images, len(source.test))
        torch.manual_seed(1)
        binarize: Binarize = above_half if threshold else torch.bernoulli
        x, others = binarize(source.train[:images]), binarize(source.test[:images])
        lines, figures = [], {}
        for trained_with in ("diagonal", "flow"):
            found, (model, guides) = study(trained_with, source.train, x, binarize, epochs, latents, anneal)
            rows = {row.guide: row for row in found.rows}
            own = rows[trained_with]
            weighted = found.bounds.sel(guide=trained_with)
            seen = generalization(model, guides[trained_with], x, held_out=others, particles=200, evidence="importance")
            line: dict[str, Any] = {"model trained with": trained_with, "L[q]": own.elbo, "L[q] se": own.elbo_se}
            for name, row in rows.items():
                line[f"L[q*_{name}]"] = row.elbo + (row.amortization_gap or 0.0)
                line[f"approximation {name}"] = row.approximation_gap
                line[f"amortization {name}"] = row.amortization_gap
                line[f"k-hat good {name}"] = row.khat_good
            line["IWAE_1000"], line["IWAE_1000 se"] = average(weighted.iwelbo[-1], weighted.iwelbo_se[-1])
            line["AIS"], line["AIS se"] = own.log_evidence, own.log_evidence_se
            line |= {f"train - test, {name}": value for name, value in seen.items()}
            held = bounds(model, guides[trained_with], others, particles=100, curve=(1,))
            line["test L[q]"] = average(held.elbo, held.elbo_se)[0]
            lines.append(line)
            print(json.dumps(results.plain(line), indent=2), flush=True)
            figures |= {
                f"gaps-{trained_with}.png": stacked_gaps(found),
                f"rate-distortion-{trained_with}.png": rate_distortion(found),
                f"khat-{trained_with}.png": khat_by_image(weighted.assign_attrs(found.bounds.attrs), x, source.shape),
            }
        (place / "gaps.json").write_text(json.dumps(results.plain(lines), indent=2) + "\n")
        for name, figure in figures.items():
            results.save(place / name, figure)
        running.finish()
    print(running.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--threshold", action="store_true", help="binarize at 0.5 instead of anew at each draw")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--latents", type=int, default=50)
    parser.add_argument("--anneal", type=int, default=500, help="distributions between the prior and the posterior")
    parser.add_argument("--run", default="", help="the folder to write, a new one in runs/ by default")
    main(**vars(parser.parse_args()))
