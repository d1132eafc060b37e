"""The last step of a run: its record says what its files are, and that they are whole."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ppl_vae.data.images import Images
from ppl_vae.runs.folder import RunFolder
from ppl_vae.runs.opened import digests
from ppl_vae.runs.provenance import fingerprint
from ppl_vae.runs.writing import Files
from ppl_vae.runs.zoo import Builder


def finish(
    running: RunFolder,
    kind: str,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    pairs: Files,
    *,
    results: str = "result.json",
    keep_parts: bool = False,
) -> None:
    """Marks a run as finished, when all its files are written.

    Args:
        running: the run.
        kind: "images", "table" or "shared".
        settings: with what it ran.
        data: on what, see :func:`image_record`.
        pairs: the files of each pair.
        results: the name of the file that holds what it printed.
        keep_parts: whether the checkpoints stay, to train on from.
    """
    running.finish(
        keep_parts,
        kind=kind,
        settings=settings,
        data=data,
        pairs=pairs,
        results=results,
        files=digests(running.path),
    )


def image_record(source: Images, builder: Builder) -> dict[str, Any]:
    """What a record keeps of images: enough to make the pair again without them, and to know them again."""
    parts = [part for part in (source.train, source.test, source.train_labels, source.test_labels) if part is not None]
    return {
        "name": source.name,
        "fingerprint": fingerprint(parts),
        "shape": list(source.shape),
        "pixels": builder.pixels,
        "classes": builder.classes,
    }


def tensors_record(name: str, tensors: tuple[Tensor, ...], **more: Any) -> dict[str, Any]:
    """What a record keeps of a table, or of the data that a model comes with."""
    return {"name": name, "fingerprint": fingerprint(tensors), **more}
