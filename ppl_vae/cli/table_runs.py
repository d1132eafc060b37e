"""``ppl-vae train`` on a table: a Gaussian mixture of its columns, or a mixture density of its target."""

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from matplotlib.figure import Figure
from rich.table import Table as Shown
from sklearn.model_selection import train_test_split
from torch import Tensor

from ppl_vae.cli import report
from ppl_vae.data.tables import Table, load_table
from ppl_vae.errors import InputError
from ppl_vae.models import GaussianMixture, MixtureDensityNetwork
from ppl_vae.models.gaussian_mixture import bic
from ppl_vae.pairs.restore import evaluating
from ppl_vae.plots.mixtures import clusters, conditional_density
from ppl_vae.training.fit import resolve_device
from ppl_vae.training.optimizers import cooldown
from ppl_vae.training.several_starts import Start, best_of

MIXTURES = ("gaussian-mixture", "mixture-density-network")
_STEPS = 1000
_FEW = 10_000  # up to so many rows a step takes them all
# of a network, as on the UCI tables (benchmarks/uci.py)
_NETWORK_BATCH = 128
_WEIGHT_DECAY = 1.0
_FLOOR = 2e-2


def train_on_table(
    model: str,
    data: str,
    *,
    target: str | None,
    components: int,
    covariance: str,
    starts: int,
    hidden: tuple[int, ...],
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    weight_decay: float | None,
    seed: int,
    device: str,
    data_root: Path | None,
    run: Path | None,
    as_json: bool,
) -> None:
    """Trains from several starts, writes the run's folder, prints every start.

    A Gaussian mixture is trained on all rows, and the start of the highest likelihood is kept. A mixture density
    network is trained on 64% of the rows with weight decay, stopped and chosen by 16%, and tested on 20%.

    Raises:
        InputError: for a model that takes images, a table that gives no density, or what ``fit`` refuses.
    """
    if model not in MIXTURES:
        raise InputError(f"{data} is a table, which {model!r} does not take: choose from {', '.join(MIXTURES)}")
    folder = report.new_run(run, f"train-{Path(data).stem}")
    table = load_table(data, data_root, target)
    if covariance == "":
        covariance = "full" if model == "gaussian-mixture" else "diagonal"
    is_network = model == "mixture-density-network"
    batch, validation, test = _split(table, seed) if is_network else ((table.varied().values,), None, None)
    rows = len(batch[0])
    if rows <= components:
        raise InputError(f"{data} has {rows} rows to train on, {components} components need more: lower --components")
    size = batch_size or min(rows, _NETWORK_BATCH if is_network else _FEW)
    length = epochs or max(1, round(_STEPS / -(-rows // size)))
    rate = lr if lr is not None else (0.005 if is_network else 0.03)
    decay = weight_decay if weight_decay is not None else (_WEIGHT_DECAY if is_network else 0.0)
    if not rate > 0:
        raise InputError(f"--lr is {rate}; a learning rate is above 0")
    if not decay >= 0 or (decay and not is_network):
        raise InputError(f"--weight-decay is {decay}; it is 0 or above, and 0 for a gaussian-mixture, which has none")

    def make(number: int) -> torch.nn.Module:
        pyro.set_rng_seed(number)
        if model == "gaussian-mixture":
            return GaussianMixture(batch[0].shape[1], components, covariance).initialize(batch[0], number)
        network = MixtureDensityNetwork(
            1, components, batch[1].shape[1], covariance, hidden, floor=_FLOOR, activation=torch.nn.SiLU
        )
        return network.standardize(*batch)

    try:
        make(seed)
    except ValueError as error:
        raise InputError(f"{data}: {error}") from None
    best, found = best_of(
        make,
        batch,
        starts=starts,
        seed=seed,
        epochs=length,
        batch_size=size,
        schedule=cooldown,
        device=device,
        optimizer=partial(torch.optim.AdamW, lr=rate, weight_decay=decay, fused=True),
        held_out=validation,
    )
    settings = {
        "model": model,
        "data": data,
        "target": table.target,
        "components": components,
        "covariance": covariance,
        "starts": starts,
        "epochs": length,
        "batch_size": size,
        "lr": rate,
        "weight_decay": decay,
        "seed": seed,
        "device": str(resolve_device(device)),
        "run": folder,
    }
    kept = next(start for start in found if start.kept)
    result: dict[str, Any] = {
        "settings": settings,
        "units": "log_likelihood: nats, the sum over the training rows; held_out, test_nll: nats, means over rows",
        "kept_by": "held_out, the log-density of the validation rows" if validation else "log_likelihood",
        "rows": rows,
        "log_likelihood": kept.log_likelihood,
        "degenerate": kept.degenerate,
        "starts": [asdict(start) for start in found],
    }
    best.cpu()
    with evaluating(best):
        if isinstance(best, GaussianMixture):
            result |= {"smallest_eigenvalue": kept.smallest_eigenvalue, "bic": bic(best, batch[0])}
            result |= {"weights": best.weights.tolist(), "means": best.means.tolist(), "columns": table.columns}
        elif validation is not None and test is not None:
            value = best.log_evidence(*test).double()  # type: ignore[operator]
            result |= {"validation_rows": len(validation[0]), "validation_nll": -float(kept.held_out or 0.0)}
            result |= {"test_rows": len(value), "test_nll": -float(value.mean())}
            result["test_nll_se"] = float(value.std()) / len(value) ** 0.5
        figure = _figure(best, table, batch)
    with report.whole_folder(folder) as place:
        report.write_json(place / "result.json", result)
        report.save_parameters(place / "model.pt", best)
        if figure is not None:
            report.save(place / "density.png", figure)
    if as_json:
        print(json.dumps(report.plain(result)))
        return
    title = f"{model}, {components} components, {covariance}, {data}: {rows} rows"
    report.show(_shown(found, title, len(validation[0]) if validation else 0))
    if "test_nll" in result:
        print(f"test NLL {result['test_nll']:.4f} ± {result['test_nll_se']:.4f} nats, {result['test_rows']} rows")
    else:
        print(f"BIC {result['bic']:.3f}")
    print(folder)


def _split(table: Table, seed: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Targets and what they are predicted from: rows to train on, to stop and choose by, and to test on."""
    if table.targets is None:
        raise InputError(
            f"{table.name} has no target, which a mixture-density-network predicts: name a column by --target"
        )
    if table.classes:
        raise InputError(
            f"{table.name}: the target {table.target!r} holds text, a mixture-density-network predicts a number: name "
            f"another column by --target, such as {table.columns[0]}"
        )
    targets = table.targets[:, None]
    if float(targets.min()) == float(targets.max()):
        raise InputError(f"{table.name}: the target {table.target!r} is constant, so its density has no scale")
    if len(targets) < 10:
        raise InputError(f"{table.name} has {len(targets)} rows: at least 10 are needed, a fifth of them to test on")
    pair = (targets, table.varied().values)
    targets, held_targets, values, held_values = train_test_split(*pair, test_size=0.2, random_state=seed)
    parts = train_test_split(targets, values, test_size=0.2, random_state=seed)
    return (parts[0], parts[2]), (parts[1], parts[3]), (held_targets, held_values)


def _figure(model: torch.nn.Module, table: Table, batch: tuple[Tensor, ...]) -> Figure | None:
    if isinstance(model, GaussianMixture):
        labels = table.targets.long().tolist() if table.targets is not None and table.classes else None
        return clusters(
            table.values,
            model.posterior(table.values).probs,
            model.means,
            model.covariances,
            table.columns,
            f"{table.name}: {model.components} Gaussians, {model.covariance}",
            labels,
        )
    if not isinstance(model, MixtureDensityNetwork) or batch[1].shape[1] != 1:
        return None
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    spans = [(float(part.min()), float(part.max())) for part in (batch[1], batch[0])]
    conditional_density(model.log_evidence, spans[0], spans[1], axes)
    axes.plot(batch[1], batch[0], ".", ms=2, color="0.3")
    axes.set(xlabel=table.columns[0], ylabel=table.target, title="p(target | column), shades of its root")
    return figure


def _shown(starts: list[Start], title: str, validation_rows: int) -> Shown:
    shown = Shown(title=title)
    if validation_rows:
        shown.caption = (
            f"Each start was stopped at its best epoch by the {validation_rows} validation rows, whose highest mean is "
            "kept; the test rows had no part in it."
        )
    validated = ("validation, nats/row", "best epoch") if validation_rows else ()
    for heading in ("start", "log likelihood, nats", "smallest eigenvalue", *validated, "seconds", ""):
        shown.add_column(heading, justify="right")
    for start in starts:
        eigenvalue = "-" if start.smallest_eigenvalue is None else f"{start.smallest_eigenvalue:.3g}"
        note = " ".join(word for word, true in (("kept", start.kept), ("degenerate", start.degenerate)) if true)
        told = () if start.held_out is None else (f"{start.held_out:.3f}", str(start.epochs))
        shown.add_row(str(start.seed), f"{start.log_likelihood:.3f}", eigenvalue, *told, f"{start.seconds:.1f}", note)
    return shown
