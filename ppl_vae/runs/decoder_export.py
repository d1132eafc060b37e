"""A decoder as numbers that a page evaluates by itself: linear layers, known activations, and nothing else."""

import base64
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_vae.models import LinearGaussian
from ppl_vae.pairs.restore import evaluating
from ppl_vae.programs import LatentVariableModel

_MOST_IN_FLOAT32 = 250_000  # parameters, about 1.3 MB of page; more of them are rounded to 16 bits
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2}  # of a pixel's range, between the page and the model
_TRIED = 32  # latents at which the two are compared
# what a layer is in the page, and the option that its arithmetic needs
_ACTIVATIONS: dict[type[nn.Module], tuple[str, str | None]] = {
    nn.ReLU: ("relu", None),
    nn.LeakyReLU: ("leaky-relu", "negative_slope"),
    nn.ELU: ("elu", "alpha"),
    nn.Tanh: ("tanh", None),
    nn.Sigmoid: ("sigmoid", None),
    nn.SiLU: ("silu", None),
}
_NOTHING = (nn.Identity, nn.Dropout)  # in eval mode


class NotExportable(Exception):
    """Says in a sentence why a decoder can't be evaluated in a page."""


def exported_decoder(model: LatentVariableModel, given_dim: int = 0) -> dict[str, Any]:
    """The model's decoder as JSON: what maps z, and a one-hot label behind it, to the mean of p(x | z).

    The numbers are checked against ``model.likelihood`` before they are given back, so a model that does more with z
    than its ``decoder`` says is refused, not drawn wrong.

    Args:
        model: in eval mode, with the networks on the CPU.
        given_dim: the width of what the model is conditional on, 0 where it is not.

    Raises:
        NotExportable: for a decoder of other layers, or another arithmetic.

    Examples:
        >>> from ppl_vae.models import VAE
        >>> from ppl_vae.runs.decoder_export import exported_decoder
        >>> found = exported_decoder(VAE(64, 2, hidden=(5,)))
        >>> [layer["kind"] for layer in found["layers"]], found["output"], found["precision"]
        (['linear', 'relu', 'linear'], 'sigmoid', 'float32')
    """
    layers = _layers(model)
    count = sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))
    precision = "float32" if count <= _MOST_IN_FLOAT32 else "float16"
    with evaluating(model):
        z = 1.5 * torch.randn(_TRIED, model.latent_dim, generator=torch.Generator().manual_seed(0))
        given = [torch.eye(given_dim)[torch.arange(_TRIED) % given_dim]] if given_dim else []
        likelihood: Any = model.likelihood(z, *given)
        base = getattr(likelihood, "base_dist", likelihood)
        if not isinstance(base, dist.Bernoulli | dist.Normal):
            raise NotExportable(f"Its likelihood is a {type(base).__name__}, which the page does not know.")
        output = "sigmoid" if isinstance(base, dist.Bernoulli) else "identity"
        found = {"layers": [_as_json(layer, precision) for layer in layers], "output": output, "precision": precision}
        mean, here = likelihood.mean, evaluated(found, torch.cat([z, *given], -1))
    scale = max(1.0, float(mean.abs().max()))
    if mean.shape != here.shape or not float((mean - here).abs().max()) <= _TOLERANCE[precision] * scale:
        raise NotExportable("Its likelihood does more with z than its decoder's layers say.")
    return found


def evaluated(exported: dict[str, Any], inputs: Tensor) -> Tensor:
    """Evaluates an exported decoder as the page does, from the same numbers.

    Examples:
        >>> import torch
        >>> from ppl_vae.models import VAE
        >>> from ppl_vae.runs.decoder_export import evaluated, exported_decoder
        >>> evaluated(exported_decoder(VAE(64, 2, hidden=(5,))), torch.zeros(3, 2)).shape
        torch.Size([3, 64])
    """
    values = inputs
    for layer in [*exported["layers"], {"kind": exported["output"]}]:
        if layer["kind"] == "linear":
            size = layer["outputs"], layer["inputs"]
            weight = _numbers(layer["weight"], exported["precision"]).reshape(size)
            values = values @ weight.T + _numbers(layer["bias"], exported["precision"])
        elif layer["kind"] != "identity":
            values = _FUNCTIONS[layer["kind"]](values, layer.get("option", 0.0))
    return values


_FUNCTIONS: dict[str, Any] = {
    "relu": lambda values, _: values.relu(),
    "leaky-relu": lambda values, slope: torch.where(values > 0, values, slope * values),
    "elu": lambda values, alpha: torch.where(values > 0, values, alpha * values.clamp(max=0).expm1()),
    "tanh": lambda values, _: values.tanh(),
    "sigmoid": lambda values, _: values.sigmoid(),
    "silu": lambda values, _: values * values.sigmoid(),
}


def _layers(model: LatentVariableModel) -> list[nn.Module]:
    """The layers of the decoder, one after the other."""
    if isinstance(model, LinearGaussian):
        layer = nn.Linear(model.weight.shape[1], model.weight.shape[0])
        layer.weight, layer.bias = nn.Parameter(model.weight.detach()), nn.Parameter(model.bias.detach())
        return [layer]
    decoder = getattr(model, "decoder", None)
    if not isinstance(decoder, nn.Module):
        raise NotExportable(f"A {type(model).__name__} has no network named decoder.")
    return _flat(decoder)


def _flat(part: nn.Module) -> list[nn.Module]:
    if isinstance(part, nn.Sequential):
        return [layer for inner in part for layer in _flat(inner)]
    if type(part) in (nn.Linear, *_ACTIVATIONS):
        return [part]
    if type(part) in _NOTHING:
        return []
    raise NotExportable(f"Its decoder has a {type(part).__name__}, which the page can't evaluate.")


def _as_json(layer: nn.Module, precision: str) -> dict[str, Any]:
    if isinstance(layer, nn.Linear):
        bias = layer.bias if layer.bias is not None else torch.zeros(layer.out_features)
        return {
            "kind": "linear",
            "inputs": layer.in_features,
            "outputs": layer.out_features,
            "weight": _text(layer.weight, precision),
            "bias": _text(bias, precision),
        }
    kind, option = _ACTIVATIONS[type(layer)]
    return {"kind": kind} | ({"option": float(getattr(layer, option))} if option else {})


def _text(numbers: Tensor, precision: str) -> str:
    """Numbers as base64, little-endian, row after row."""
    kind = "<f4" if precision == "float32" else "<f2"
    return base64.b64encode(numbers.detach().cpu().numpy().astype(kind).tobytes()).decode()


def _numbers(text: str, precision: str) -> Tensor:
    kind = "<f4" if precision == "float32" else "<f2"
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), kind).astype(np.float32))
