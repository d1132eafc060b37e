"""How often does ``fit`` warn without need, and how often does it find what is wrong?

So many healthy trainings and so many sick ones of each kind, drawn at random from ``benchmarks/trainings.py``; a sick
one counts only where another measurement than the warning's own shows that it is sick. Each is kept as it ends, so the
same call goes on after a break:

    python benchmarks/false_alarms.py --runs 100 --seed 2000 --out benchmarks/results/false_alarms-one-thread.json

The thresholds of ``ppl_vae/training/health.py`` were chosen on the trainings of ``--seed 0``.
"""

import argparse
import json
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch
from trainings import HEALTHY, SICK, Drawn, Training, deep

from ppl_vae import InputError, TrainingWarning, bounds, fit, information, warm_up
from ppl_vae.measure.health import untrusted
from ppl_vae.pairs.psis import shares

# the warning that is wanted, by a part of its sentence
SENTENCES = {
    "posterior collapse": "posterior collapse",
    "likelihood's scale": "likelihood's scale",
    "lr too high": "the steps are too large",
    "lr too low": "raise lr",
    "guide unreached": "no gradient reaches the guide",
    "k-hat": "k-hat is",
}
ADVICE: dict[str, dict[str, Any]] = {
    "as it was": {},
    "kl_weight=warm_up(0.8)": {"kl_weight": warm_up(0.8)},
    "free_bits=0.1": {"free_bits": 0.1},
}
CURES = 20
TRIES = 30  # for one training that is sick indeed


def trained(made: Training, seed: int, **changed: Any) -> tuple[list[str], list[float]]:
    """Fits a pair; what was said, and the curve."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        history = fit(made.model, made.guide, made.data, seed=seed, progress=False, **made.options | changed)
    return [str(one.message) for one in seen if one.category is TrainingWarning], history.elbo


def khat_sentence(made: Training, particles: int = 500, seed: int = 0) -> str:
    """What is said of the importance weights on some of the rows."""
    rows = made.data if isinstance(made.data, tuple) else (made.data,)
    if made.options.get("transform") is torch.bernoulli:
        rows = (rows[0].bernoulli(), *rows[1:])
    try:
        found = bounds(made.model, made.guide, rows, particles=2, curve=[1], seed=0, progress=False)
        if found.attrs["unit"] != "data set":
            rows = tuple(part[:60] for part in rows)
        found = bounds(made.model, made.guide, rows, particles=particles, curve=[1], seed=seed, progress=False)
    except (InputError, NotImplementedError):  # a guide that draws nothing, or of all rows
        return ""
    if not found.attrs["is_bound"]:
        return ""
    threshold = found.attrs["khat_threshold"]
    return untrusted({"guide": shares(found.khat, threshold)["good"]}, threshold, found.attrs["unit"] == "data set")


def made_by(draw: Drawn, seed: int) -> Training:
    """The training of a seed."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    return draw(random.Random(seed))


def good_rate(made: Training) -> float:
    """A learning rate that is known to do for a pair like this."""
    return 0.03 if made.options["epochs"] >= 600 else 3e-3


def is_sick(kind: str, draw: Drawn, seed: int, made: Training, curve: list[float]) -> bool:
    """Whether a training is sick indeed, by a measurement that the warnings don't use."""
    if kind == "posterior collapse":
        rows = tuple(part[:300] for part in (made.data if isinstance(made.data, tuple) else (made.data,)))
        rows = (rows[0].bernoulli(), *rows[1:]) if "transform" in made.options else rows
        programs = [getattr(program, "program", program) for program in (made.model, made.guide)]
        found = information(*programs, rows, particles=50, marginal=150, seed=0, progress=False)
        return found.attrs["active_units"] == 0 and not found.attrs["mutual_information"] > 0.05
    if kind == "likelihood's scale":
        return abs(torch.tensor(scale_of(made)).log10()).max().item() > 3
    if kind in ("lr too high", "lr too low"):
        other = made_by(draw, seed)
        _, reference = trained(other, seed, lr=good_rate(other))
        tenth = max(1, len(curve) // 10)
        start, end, best = curve[0], sum(curve[-tenth:]) / tenth, sum(reference[-tenth:]) / tenth
        start = min(reference[0], start) if kind == "lr too low" else reference[0]
        return best - end > 0.5 * (best - start) and best - end > 0.02 * max(1.0, abs(best))
    if kind == "k-hat":
        return all(khat_sentence(made, seed=other) for other in (1, 2))
    return True


def scale_of(made: Training) -> list[float]:
    """The learned scales in units of the data's spread; a column that is constant has the spread of all of them."""
    if hasattr(made.model, "log_scale"):
        spread = made.data.std(0)
        unit = torch.where(spread > 0, spread, made.data.std())
        return (made.model.log_scale.exp() / unit).tolist()
    return [float(pyro.param("sigma") / made.data[0].std())]


def healthy(name: str, seed: int) -> dict[str, Any]:
    """A healthy training, and what is said of it."""
    made = made_by(HEALTHY[name], seed)
    said, curve = trained(made, seed)
    said += [line for line in (khat_sentence(made),) if line]
    said = [f"true: {line}" if is_true(line, name, seed, made, curve) else line for line in said]
    return {"name": name, "seed": seed, "options": words(made), "curve": ends(curve), "said": said}


def is_true(line: str, name: str, seed: int, made: Training, curve: list[float]) -> bool:
    """Whether what is said of a training that was meant to be healthy holds: another measurement finds it too."""
    kind = next(kind for kind, part in SENTENCES.items() if part in line)
    if kind == "lr too low":  # a third of the epochs more gain at least half of what the last third has gained
        third = len(curve) // 3
        _, more = trained(made, seed + 1, epochs=third)
        half = third // 2
        last, before, after = (sum(part[-half:]) / half for part in (curve, curve[:-third], more))
        return after - last > 0.5 * (last - before)
    return kind in ("posterior collapse", "k-hat") and is_sick(kind, HEALTHY[name], seed, made, curve)


def sick(kind: str, seed: int) -> dict[str, Any]:
    """A training that is sick in this way, and what is said of it; the seeds that gave none are passed over."""
    for step in range(TRIES):
        own = seed + 100_000 * step
        made = made_by(SICK[kind], own)
        try:
            said, curve = trained(made, own)
        except (InputError, RuntimeError, ValueError) as error:  # it has ended with an error, ours or torch's
            if kind != "lr too high" or step < TRIES - 1:
                continue
            return {"seed": own, "said": [], "refused": str(error)}
        if is_sick(kind, SICK[kind], own, made, curve):
            if kind == "k-hat":
                said += [line for line in (khat_sentence(made),) if line]
            return {"seed": own, "options": words(made), "curve": ends(curve), "said": said}
    raise RuntimeError(f"no training of {TRIES} is sick: {kind}, {seed}")


def cured(seed: int) -> dict[str, Any]:
    """A collapse, and what becomes of the pair by each piece of the sentence's advice, all else equal."""
    record: dict[str, Any] = {"seed": seed, "said": []}
    for name, advice in ADVICE.items():
        made = made_by(deep, seed)
        said, curve = trained(made, seed, **advice)
        rows = made.data[:300].bernoulli()
        found = information(made.model, made.guide, rows, particles=50, marginal=150, seed=0, progress=False)
        figures = {"elbo": curve[-1], "rate": float(found.rate.mean()), "active": found.attrs["active_units"]}
        record[name] = figures | {"told": any("posterior collapse" in line for line in said)}
    return record


def words(made: Training) -> dict[str, str]:
    """The options, to be read."""
    kinds = {"model": type(made.model).__name__, "guide": type(made.guide).__name__}
    return kinds | {key: getattr(value, "__name__", str(value)) for key, value in made.options.items()}


def ends(curve: list[float]) -> list[float]:
    """The curve's first and last points."""
    return [round(value, 3) for value in (*curve[:2], *curve[-2:])]


def counted(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How many healthy trainings have each warning, and how many of the sick ones have that which they should."""
    told: dict[str, Any] = {"healthy": {}, "sick": {}}
    well = [record for key, record in records.items() if key.startswith("healthy")]
    for kind, part in SENTENCES.items():
        false = [any(part in line and not line.startswith("true") for line in record["said"]) for record in well]
        true = [any(part in line and line.startswith("true") for line in record["said"]) for record in well]
        told["healthy"][kind] = f"{sum(false)} false alarms in {len(well)}, {sum(true)} true ones"
        ill = [record for key, record in records.items() if key.startswith(f"{kind} ")]
        hits = [any(part in line for line in record["said"]) for record in ill]
        other = [bool(record["said"]) for record in ill]
        told["sick"][kind] = f"{sum(hits)} of {len(ill)}, any warning {sum(other)}"
    ill = [record for key, record in records.items() if key.startswith("cure ")]
    for name in ADVICE if ill else ():
        rate, elbo = (sum(record[name][figure] for record in ill) / len(ill) for figure in ("rate", "elbo"))
        collapsed = sum(record[name]["told"] for record in ill)
        told.setdefault("cure", {})[name] = (
            f"{collapsed} of {len(ill)} told to be collapsed, mean rate {rate:.2f}, mean ELBO {elbo:.2f} nats"
        )
    return told


def measure(runs: int, seed: int, only: str, keep: Callable[[dict[str, Any]], None], records: dict[str, Any]) -> None:
    """Takes what is missing among the trainings, one after the other."""
    names = list(HEALTHY)
    for number in range(runs):
        for kind in ("healthy", *SICK, "cure"):
            key = f"{kind} {number}"
            if key in records or only not in kind or (kind == "cure" and number >= CURES):
                continue
            began = time.perf_counter()
            if kind == "healthy":
                record = healthy(names[number % len(names)], seed + number)
            else:
                record = cured(seed + number) if kind == "cure" else sick(kind, seed + number)
            records[key] = record | {"seconds": round(time.perf_counter() - began, 2)}
            keep(records)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="of each kind")
    parser.add_argument("--seed", type=int, default=2000)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(options.out.read_text())["trainings"] if options.out.exists() else {}

    def keep(records: dict[str, Any]) -> None:
        """Writes all that is known."""
        content = {"seed": options.seed, "counts": counted(records), "trainings": records}
        options.out.write_text(json.dumps(content, indent=1) + "\n")

    measure(options.runs, options.seed, options.only, keep, known)
    print(json.dumps(counted(known), indent=1))
