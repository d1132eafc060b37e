"""A folder that keeps the parts of a comparison as they end: checkpoints of trainings, and measurements as netCDF."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import xarray as xr
from torch import Tensor, nn

from ppl_vae.errors import InputError, first_line
from ppl_vae.measure.best_evidence import Evidence, Source
from ppl_vae.pairs.modules import modules_of
from ppl_vae.pairs.pair import Pair
from ppl_vae.training import distributed
from ppl_vae.training.beside import Beside
from ppl_vae.training.checkpoints import in_use_by_this_run
from ppl_vae.training.descriptions import Words
from ppl_vae.training.digests import digest
from ppl_vae.training.identity import programs_identity, refuse_other
from ppl_vae.training.writing import replaced

_OWN = "ppl_vae"  # the attribute with what is not the measurement's


class KeptParts:
    """Names a checkpoint for each training, and gives a measurement back from its file where it was made before.

    Args:
        folder: where they are kept; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self._folder = None if folder is None else Path(folder)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Refuses a folder that another run writes to, or in which nothing can be written."""
        with in_use_by_this_run(self._folder, "name another folder"):
            yield

    def training(self, name: str) -> Path | None:
        """Names the file of a training."""
        return self._file(f"{name}.pt")

    def measured(
        self, name: str, pair: Pair, settings: Mapping[str, Any], seed: int | None, measure: Callable[[], xr.Dataset]
    ) -> xr.Dataset | InputError:
        """Measures, or reads what was measured before, and then puts the random numbers where they were after it.

        Args:
            name: of the part.
            pair: whose data, programs and parameters tell this measurement from others.
            settings: what else does.
            seed: of the measurement's random numbers.
            measure: makes it.

        Returns:
            The measurement, or the error with which it ended.

        Raises:
            InputError: for a file of another measurement, a damaged one, or one that can't be written.
        """
        path = self._file(f"{name}.nc")
        if path is not None:
            identity, beside = _identity(pair, settings), Beside((pair.model, pair.own_guide))
            if path.exists():
                found, own = _read(path)
                refuse_other(path, own["run"], identity, "name another folder")
                beside.load_state_dict({**own["random"], "store": {}})
                return found
        try:
            with pair.measuring(seed):
                found = measure()
        except InputError as error:
            return error
        if path is not None and distributed.rank() == 0:
            _write(path, found, {"run": identity, "random": beside.state_dict() | {"store": {}}})
        return found

    def _file(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / quote(name, safe=" ()+,=")


def in_dataset(evidence: Source | Evidence | None) -> xr.Dataset:
    """Makes a dataset of what the model alone tells of log p(x)."""
    if evidence is None:
        return xr.Dataset()
    words = {"name": evidence.name} if isinstance(evidence, Source) else {"words": evidence.words}
    parts = {"value": evidence.value, "error": evidence.error, "bias": evidence.bias}
    return xr.Dataset({name: part.drop_attrs() for name, part in parts.items()}, attrs=words)


def from_dataset(dataset: xr.Dataset) -> Source | Evidence | None:
    """Makes what :func:`in_dataset` was given."""
    if not dataset:
        return None
    parts = dataset.value, dataset.error, dataset.bias
    if "name" in dataset.attrs:
        return Source(dataset.attrs["name"], *parts)
    return Evidence(*parts, dataset.attrs["words"])


def _identity(pair: Pair, settings: Mapping[str, Any]) -> dict[str, str]:
    programs = (pair.model, pair.own_guide)
    modules = [part for part in modules_of(*programs) if isinstance(part, nn.Module)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return {
        "data": digest(part for part in pair.batch if isinstance(part, Tensor)),
        **{name: Words().of(value) for name, value in settings.items()},
        **programs_identity(*programs),
        "parameters": digest(tensors),
    }


def _write(path: Path, measured: xr.Dataset, own: Mapping[str, Any]) -> None:
    attributes = {key: value.item() if hasattr(value, "item") else value for key, value in measured.attrs.items()}
    kinds = {str(name): str(variable.dtype) for name, variable in measured.variables.items()}
    words = json.dumps({**own, "attributes": attributes, "kinds": kinds}, default=Tensor.tolist)
    kept = measured.assign_attrs({_OWN: words, "digest": _digest(words, measured)})
    with replaced(path) as new:
        kept.to_netcdf(new, engine="scipy")


def _read(path: Path) -> tuple[xr.Dataset, dict[str, Any]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            measured = xr.load_dataset(path, engine="scipy")
        words = measured.attrs[_OWN]
        if measured.attrs["digest"] != _digest(words, measured):
            raise ValueError("its digest is that of another content")
        own = json.loads(words)
        kinds = {name: measured[name].astype(kind) for name, kind in own["kinds"].items()}  # netCDF 3 has fewer
        return measured.assign(kinds).drop_attrs(deep=False).assign_attrs(own["attributes"]), own
    except Exception as error:
        raise InputError(
            f"{path} is no measurement that compare has kept, or is damaged ({first_line(error)}): remove it, or name "
            "another folder"
        ) from None


def _digest(words: str, measured: xr.Dataset) -> str:
    """A few digits that change with any word or number."""
    hashed = hashlib.blake2b(words.encode(), digest_size=8)
    for name in sorted(map(str, measured.variables)):
        hashed.update(f"{name} {measured[name].dims} {measured[name].values.tolist()}".encode())
    return hashed.hexdigest()
