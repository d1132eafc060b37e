"""The data of a run that is opened again: found where they lie now, and known by their fingerprint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ppl_vae.data.images import load
from ppl_vae.data.tables import load_table
from ppl_vae.errors import InputError
from ppl_vae.runs.data_records import image_tensors, table_tensors
from ppl_vae.runs.image_data import data_for
from ppl_vae.runs.opened import Run
from ppl_vae.runs.rebuilt import shared_start
from ppl_vae.training.digests import digest


def test_data(run: Run, model: Any, data_root: Path | None, images: int | None) -> tuple[Tensor, ...]:
    """The data that a run's pairs are measured on: its test images, a table's rows, or those that its model comes with.

    Args:
        run: the run.
        model: of one of its pairs.
        data_root: the folder that the data are in, that of the run where None.
        images: how many test images to take, as many as the run where None.

    Raises:
        InputError: where the data are no longer those of the run.
    """
    settings = run.settings
    if run.kind == "images":
        source = load(settings["data"], run.data_root(data_root))
        _require_same(run, image_tensors(source))
        return data_for(model, source, settings["seed"], images or settings.get("images")).test
    if run.kind == "table":
        table = load_table(settings["data"], run.data_root(data_root), run.data["target"])
        _require_same(run, table_tensors(table))
        if model.given_count and table.targets is not None:
            return table.targets[:, None], table.values
        return (table.values,)
    _, data = shared_start(settings["model"], settings["seed"])
    _require_same(run, data)
    return data


def _require_same(run: Run, tensors: Sequence[Tensor]) -> None:
    if digest(tensors) != run.data["fingerprint"]:
        raise InputError(
            f"the data {run.data['name']} are not those of {run.folder}, whose values were others: give the folder of "
            "those by --data-root"
        )
