"""What a run's record keeps of its data: enough to make the pair again without them, and to know them again."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ppl_vae.data.images import Images
from ppl_vae.data.tables import Table
from ppl_vae.runs.zoo import Builder
from ppl_vae.training.digests import digest


def image_record(source: Images, builder: Builder) -> dict[str, Any]:
    """Describes images, with what a pair of them is made of."""
    sizes = {"shape": list(source.shape), "pixels": builder.pixels, "classes": builder.classes}
    return data_record(source.name, image_tensors(source), **sizes)


def table_record(table: Table) -> dict[str, Any]:
    """Describes a table, with what a model of it is made of."""
    return data_record(table.name, table_tensors(table), columns=list(table.columns), target=table.target)


def data_record(name: str, tensors: Sequence[Tensor], **more: Any) -> dict[str, Any]:
    """Describes data by their name and a fingerprint, which changes with any of their values."""
    return {"name": name, "fingerprint": digest(tensors), **more}


def image_tensors(source: Images) -> list[Tensor]:
    """Lists all that a set of images holds."""
    parts = (source.train, source.test, source.train_labels, source.test_labels)
    return [part for part in parts if part is not None]


def table_tensors(table: Table) -> list[Tensor]:
    """Lists all that a table holds."""
    return [part for part in (table.values, table.targets) if part is not None]
