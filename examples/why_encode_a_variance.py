"""Why encode a variance? The ladder from autoencoder to flow, one model and guide for each rung, on one data set.

What when the encoder may not produce sigma and it is hard-coded to 1.0 (unit)? What when it has no noise (delta)? What
when it sees nothing of x (prior)? Each rung trains a model of its own; the table answers with numbers, the figures show
samples from the prior and ways between two images.

    python examples/why_encode_a_variance.py --data mnist --epochs 20
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ppl_vae import compare, cooldown
from ppl_vae.cli import results
from ppl_vae.data.images import load
from ppl_vae.pairs.restore import evaluating
from ppl_vae.plots.images import show_image
from ppl_vae.programs import Guide, LatentVariableModel
from ppl_vae.runs.folder import begun
from ppl_vae.runs.image_data import builder_for, data_for

LADDER = ("delta", "prior", "unit", "fixed-scale", "diagonal", "full", "flow")


def gallery(images: dict[str, Tensor], shape: tuple[int, int], title: str) -> Figure:
    """A row of images for each rung."""
    count = len(next(iter(images.values())))
    figure = Figure(figsize=(0.75 * count + 1.3, 0.8 * len(images) + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=10)
    for line, (name, row) in zip(figure.subplots(len(images), count), images.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axes, image in zip(line, row, strict=True):
            show_image(axes, image, shape)
    return figure


def between(model: LatentVariableModel, guide: Guide, x: Tensor, steps: int = 12) -> Tensor:
    """The mean of p(x | z) on the line between the posterior means of two images."""
    with evaluating(model, guide):
        first, last = guide.posterior(x).expand((200, 2))().mean(0)
        way = torch.linspace(0, 1, steps, device=x.device)[:, None]
        return model.likelihood((1 - way) * first + way * last).mean


def main(data: str = "digits", epochs: int = 100, latents: int = 16, images: int = 2000, run: str = "") -> None:
    """Trains and measures every rung; prints the table, writes it and the figures."""
    asked = {"data": data, "epochs": epochs, "latents": latents, "images": images}
    with begun(Path(run) if run else None, f"ladder-{data}", "examples/why_encode_a_variance.py", asked) as running:
        place = running.path
        source = load(data)
        builder = builder_for(source, latents, (400, 400), "bernoulli")
        torch.manual_seed(0)
        model = builder.model("vae")
        guides: dict[str, Any] = {name: builder.guide(name, model) for name in LADDER}
        of_data = data_for(model, source, 0, images)
        test = of_data.test
        found = compare(
            model,
            guides,
            of_data.training,
            test=test,
            joint=True,
            epochs=epochs,
            particles=500,
            transform=of_data.transform,
            schedule=cooldown,
            elbo=builder.elbo,
            columns=(500,),
            batch_size=128,
            checkpoint=running.parts,
        )
        table: list[dict[str, Any]] = []
        samples, ways = {}, {}
        for name in LADDER:
            row = next(row for row in found.rows if row.guide == name)
            pair: Any = found.pairs[name]
            device = pair[0].prior_loc.device
            x = test[0].to(device)
            torch.manual_seed(1)
            sound, own = row.is_bound, found.bounds.sel(guide=name)
            table.append(
                {"guide": name, "elbo": row.elbo, "note": "" if sound else "not a bound"}
                | {"rate": row.rate, "rate_bits": None if row.rate is None else row.rate / math.log(2)}
                | {"distortion": float(own.distortion.mean()), "active_units": row.active_units}
                | {"log_evidence": row.log_evidence if sound else None, "seconds": row.seconds}
            )
            with evaluating(*pair):
                samples[name] = pair[0].generate(12)[1].mean
            ways[name] = between(*pair, x[:2])
        columns = {"elbo": 2, "rate_bits": 2, "distortion": 2, "log_evidence": 2, "active_units": 0}
        print(f"{'guide':<13}" + "".join(f"{name:>14}" for name in columns))
        for entry in table:
            cells = ["-" if entry[name] is None else f"{entry[name]:.{places}f}" for name, places in columns.items()]
            print(f"{entry['guide']:<13}" + "".join(f"{cell:>14}" for cell in cells), entry["note"])
        print("nats per test image (rate in bits); log_evidence: IWELBO at K = 500; each rung has a model of its own")
        (place / "ladder.json").write_text(json.dumps(results.plain(table), indent=2) + "\n")
        shape = source.shape
        results.save(place / "samples.png", gallery(samples, shape, "Drawn from the prior: the mean of p(x | z)"))
        results.save(place / "between.png", gallery(ways, shape, "Between the posterior means of two test images"))
        running.finish()
    print(running.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--latents", type=int, default=16)
    parser.add_argument("--images", type=int, default=2000, help="measure on so many test images")
    parser.add_argument("--run", default="", help="the folder to write, a new one in runs/ by default")
    main(**vars(parser.parse_args()))
