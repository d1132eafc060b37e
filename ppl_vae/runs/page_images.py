"""What a report shows of single images: each guide's reconstruction with that image's figures, and the latent plane."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.image import imsave
from torch import Tensor, nn

from ppl_vae.data.images import load
from ppl_vae.measure.posterior import posterior
from ppl_vae.plots.images import reconstruct
from ppl_vae.plots.style import colors
from ppl_vae.programs import LatentVariableModel
from ppl_vae.runs.decoder_export import NotExportable, exported_decoder
from ppl_vae.runs.opened import Run
from ppl_vae.runs.page_words import nats, rows_of, shown_khat

SHOWN = 24  # images with their reconstructions
_POINTS = 1000  # test images in the latent plane, at most
_DRAWS = 100  # of z for each of them


def single_images(run: Run, data: tuple[Tensor, ...], labels: Tensor | None) -> list[dict[str, Any]]:
    """The first test images, each with its reconstructions and, for each guide, that image's gap and k-hat.

    Args:
        run: of images, with its pairs.
        data: the test images as the model takes them.
        labels: of the test images, None where they have none.
    """
    shape = tuple(run.data["shape"])
    first = tuple(part[:SHOWN] for part in data)
    made = {name: reconstruct(model, guide, first) for name, (model, guide) in in_order(run).items()}
    by_guide = colors(run.pairs)
    return [
        {
            "number": number,
            "label": None if labels is None else int(labels[number]),
            "source": _png(image, shape),
            "guides": [
                {"name": name, "color": by_guide[name], "source": _png(images[number], shape)}
                | _figures(run.bounds, name, number)
                for name, images in made.items()
            ],
        }
        for number, image in enumerate(first[0])
    ]


def in_order(run: Run) -> dict[str, tuple[nn.Module, nn.Module]]:
    """The pairs of a run in the order of its table, those that are not in it last.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import Run
        >>> from ppl_vae.runs.page_images import in_order
        >>> in_order(Run(Path("runs/a"), "train", "images", {}, {}, {}, {}, {}, None, {}, None))
        {}
    """
    ranked = [row["guide"] for row in rows_of(run)]
    names = sorted(run.pairs, key=lambda name: ranked.index(name) if name in ranked else len(ranked))
    return {name: run.pairs[name] for name in names}


def labels_of(run: Run, data_root: Path | None) -> Tensor | None:
    """The labels of a run's test images, None where they have none."""
    return load(run.settings["data"], run.data_root(data_root)).test_labels


def explorer(run: Run, data: tuple[Tensor, ...], labels: Tensor | None) -> dict[str, Any]:
    """What the page draws the latent plane from: decoders, posterior means and the prior.

    Raises:
        NotExportable: where the latents are no plane, or no decoder can be evaluated in the page.
    """
    models: dict[int, dict[str, Any]] = {}
    points: dict[str, Any] = {}
    by_guide = colors(run.pairs)
    shown = tuple(part[:_POINTS] for part in data)
    for name, (model, guide) in in_order(run).items():
        plane = _with_plane(run, model)
        if id(model) not in models:
            models[id(model)] = exported_decoder(plane, getattr(plane, "given_dim", 0)) | {"name": name}
        where = list(models).index(id(model))
        means = _means(model, guide, shown)
        points[name] = {"model": where, "color": by_guide[name], "means": [[_short(v) for v in row] for row in means]}
    prior: Any = plane.prior()
    return {
        "shape": list(run.data["shape"]),
        "classes": run.data["classes"] if plane.given_count else 0,
        "decoders": list(models.values()),
        "points": points,
        "labels": None if labels is None else labels[:_POINTS].tolist(),
        "prior": {"mean": prior.mean.tolist(), "scale": prior.stddev.tolist()},
    }


def _with_plane(run: Run, model: nn.Module) -> LatentVariableModel:
    if not isinstance(model, LatentVariableModel) or type(model).forward is not LatentVariableModel.forward:
        raise NotExportable(f"A {type(model).__name__} has more than one latent variable.")
    prior = model.prior()
    if not prior.has_rsample:
        raise NotExportable("Its latents are discrete.")
    if prior.event_shape != (2,):
        size = " x ".join(map(str, prior.event_shape))
        raise NotExportable(f"This run has {size} latents; a plane to explore has 2: --latents 2.")
    if model.given_count > 1:
        raise NotExportable("The model is conditional on more than a label.")
    return model


def _means(model: nn.Module, guide: nn.Module, data: tuple[Tensor, ...]) -> list[list[float]]:
    draws = posterior(model, guide, data, draws=_DRAWS, seed=0, progress=False)["z"]
    means: list[list[float]] = draws.mean(["chain", "draw"]).values.reshape(len(data[0]), -1).tolist()
    return means


def _short(value: float) -> float | None:
    """A number for the page's JSON, which has none for NaN and infinity."""
    return round(value, 4) if math.isfinite(value) else None


def _figures(bounds: xr.Dataset | None, name: str, number: int) -> dict[str, Any]:
    """A guide's figures for one image, as text and as numbers to sort by; empty where the run has none."""
    if bounds is None or number >= bounds.sizes["data"]:
        return {}
    of = (bounds.sel(guide=name) if "guide" in bounds.dims else bounds).isel(data=number)
    is_bound = bool(of.is_bound) if "is_bound" in of else bool(bounds.attrs["is_bound"])
    if not is_bound:
        return {"note": "not a bound"}
    khat, threshold = float(of.khat), float(bounds.attrs["khat_threshold"])
    if "gap" in of:
        gap, words = float(of.gap), f"gap {nats(float(of.gap))}"
    else:  # of one pair alone: the highest bound at hand stands in for log p(x)
        gap = float(of.iwelbo.isel(K=-1) - of.elbo)
        words = f"gap ≥ {nats(gap)}"
    if math.isnan(khat):
        return {"gap": gap, "gap_text": words}
    trusted = khat < threshold
    return {
        "gap": gap,
        "gap_text": words,
        "khat": khat,
        "khat_text": f"k-hat {shown_khat(khat)}",
        "trusted": trusted,
    }


def _png(image: Tensor, shape: tuple[int, ...]) -> str:
    """Pixels in [0, 1] as a picture inside the page."""
    file = io.BytesIO()
    imsave(file, image.detach().reshape(shape).cpu().numpy(), cmap="gray", vmin=0, vmax=1, format="png")
    return data_uri(file.getvalue())


def data_uri(png: bytes) -> str:
    """A PNG's bytes as the address of a picture inside the page.

    Examples:
        >>> from ppl_vae.runs.page_images import data_uri
        >>> data_uri(b"PNG")
        'data:image/png;base64,UE5H'
    """
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
