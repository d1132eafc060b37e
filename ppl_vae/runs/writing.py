"""The files of a run's pairs, and what its record says of them."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ppl_vae.runs.pairs import write_module
from ppl_vae.runs.plain_json import write_json
from ppl_vae.training.history import History
from ppl_vae.training.writing import replaced

if TYPE_CHECKING:
    import xarray as xr

HISTORY, BOUNDS = "history.json", "bounds.nc"
Files = dict[str, dict[str, str]]


def write_pairs(folder: Path, pairs: Mapping[str, tuple[nn.Module, nn.Module]]) -> Files:
    """Writes the parameters of pairs; a model that is that of all of them once.

    Returns:
        The names of each pair's files, by its name: what the record of the run keeps as ``pairs``.
    """
    is_shared = len({id(model) for model, _ in pairs.values()}) == 1
    files: Files = {}
    for name, (model, guide) in pairs.items():
        of_model = "model.safetensors" if is_shared else f"model-{file_name(name)}.safetensors"
        of_guide = "guide.safetensors" if len(pairs) == 1 and is_shared else f"guide-{file_name(name)}.safetensors"
        if not (is_shared and files):
            write_module(folder / of_model, model)
        write_module(folder / of_guide, guide)
        files[name] = {"model": of_model, "guide": of_guide}
    return files


def write_histories(folder: Path, histories: Mapping[str, History]) -> None:
    """Writes the curves of the trainings by name."""
    write_json(folder / HISTORY, {name: asdict(history) for name, history in histories.items()})


def write_bounds(folder: Path, bounds: "xr.Dataset") -> None:
    """Writes the bounds of each data point as netCDF."""
    with replaced(folder / BOUNDS) as new:
        bounds.to_netcdf(new, engine="scipy")


def file_name(name: str) -> str:
    """A name as that of a file."""
    return name.replace(":", "-").replace("/", "-")
