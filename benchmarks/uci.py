"""Test NLL of one mixture density network on the UCI regression splits of Hernandez-Lobato & Adams (2015).

The folder holds one folder a set with ``data/data.txt``, ``index_features.txt``, ``index_target.txt`` and
``index_train_N.txt``, ``index_test_N.txt``. One setting serves all; the weight decay alone is picked for each set,
once, on a fifth of the first split's training rows. The wine's target takes six whole numbers, where a density may rise
without end: its figure is what the floor on the scales allows, and says little.

    python benchmarks/uci.py FOLDER [--sets concrete,energy] [--splits 20]
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ppl_vae import LogEvidence, cooldown, fit, no_guide
from ppl_vae.models import MixtureDensityNetwork

ENSEMBLE = {"concrete": 3.06, "energy": 1.38, "kin8nm": -1.20, "power-plant": 2.79, "wine-quality-red": 0.94}
DECAYS = (0.1, 0.3, 1.0, 2.0)
STEPS = 2000


def train(x: Tensor, given: Tensor, decay: float, seed: int, components: int) -> MixtureDensityNetwork:
    """A network with two hidden layers of 100 units."""
    torch.manual_seed(seed)
    model = MixtureDensityNetwork(1, components, given.shape[1], hidden=(100, 100), floor=2e-2, activation=nn.SiLU)
    model.standardize(x, given)
    epochs = max(1, round(STEPS / np.ceil(len(x) / 128)))
    optimizer = partial(torch.optim.AdamW, lr=5e-3, weight_decay=decay, fused=True)
    fit(
        model,
        no_guide,
        (x, given),
        elbo=LogEvidence(),
        optimizer=optimizer,
        epochs=epochs,
        batch_size=128,
        schedule=cooldown,
        progress=False,
        device="cpu",
    )
    return model


def nll(model: MixtureDensityNetwork, x: Tensor, given: Tensor) -> float:
    """Mean over the rows, in nats, in the target's own units."""
    with torch.no_grad():
        return -float(model.log_evidence(x, given).double().mean())


def main(folder: Path, sets: str, splits: int, components: int, out: Path | None) -> None:
    """Prints the mean and its standard error over the splits, beside the ensemble's."""
    results: dict[str, list[dict[str, float]]] = {}
    for name in sets.split(","):
        place = folder / name / "data"
        table = torch.from_numpy(np.loadtxt(place / "data.txt")).float()
        columns = [np.loadtxt(place / f"index_{kind}.txt", dtype=int, ndmin=1) for kind in ("features", "target")]
        features, target = (table[:, torch.from_numpy(column)] for column in columns)
        results[name], decay = [], DECAYS[0]
        for split in range(splits):
            began = time.perf_counter()
            rows, held = (
                torch.from_numpy(np.loadtxt(place / f"index_{kind}_{split}.txt", dtype=float).astype(int))
                for kind in ("train", "test")
            )
            if split == 0:
                order = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
                fold, rest = order[: len(rows) // 5], order[len(rows) // 5 :]
                found = {
                    choice: nll(
                        train(target[rest], features[rest], choice, 0, components), target[fold], features[fold]
                    )
                    for choice in DECAYS
                }
                decay = min(found, key=lambda choice: found[choice])
                print(f"{name}: on the fold {found}", flush=True)
            model = train(target[rows], features[rows], decay, split, components)
            entry = {"nll": nll(model, target[held], features[held]), "decay": decay}
            results[name].append(entry | {"seconds": time.perf_counter() - began})
            print(name, split, entry, flush=True)
            if out:
                out.write_text(json.dumps(results))
        values = np.array([entry["nll"] for entry in results[name]])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
        print(
            f"{name:<18} {values.mean():7.3f} ± {error:.3f}   ensemble of five {ENSEMBLE.get(name, float('nan')):.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", default=",".join(ENSEMBLE))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--components", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a JSON file for every split's figure")
    main(**vars(parser.parse_args()))
