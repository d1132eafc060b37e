"""Posterior draws by chain and draw, as one xarray.Dataset whatever they come in, and how well chains have mixed."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from ppl_vae.errors import InputError

FEWEST_DRAWS = 4  # in a chain: the least of which ArviZ takes r-hat and effective sample size, from split chains
_DIMS = ("chain", "draw")
_KINDS = "a mapping of names to arrays of shape (chains, draws, ...), an xarray.Dataset or ArviZ's data"
_ROUNDING = 1e-6  # relative: what varies less is a constant in single precision, such as a correlation of 1


def posterior_draws(draws: Any) -> xr.Dataset:
    """Reads posterior draws, of a reference or of a guide, from whatever they come in.

    Args:
        draws: a mapping of names to arrays or tensors of shape (chains, draws, ...); an ``xarray.Dataset`` with the
            dimensions chain and draw; or ArviZ's data with a group ``posterior``, be it an ``InferenceData`` (0.23) or
            an ``xarray.DataTree`` (1.x).

    Returns:
        Each parameter with the dimensions chain, draw, ``<name>_dim_0``, ``<name>_dim_1``, ..., in double precision and
        in the units of the model. Attributes of a dataset are kept, coordinates are not.

    Raises:
        InputError: for anything else, for fewer than 4 draws in a chain, for parameters that differ in their chains or
            draws, and for NaN or infinity among the draws.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.draws import posterior_draws
        >>> posterior_draws({"mu": np.zeros((4, 100)), "theta": np.zeros((4, 100, 8))}).theta.dims
        ('chain', 'draw', 'theta_dim_0')
    """
    found = _posterior_group(draws)
    attributes = dict(found.attrs) if isinstance(found, xr.Dataset) else {}
    values = {str(name): _values(str(name), array) for name, array in found.items()}
    if not values:
        raise InputError("the draws hold no parameter; at least one is needed")
    first, shape = next((name, value.shape[:2]) for name, value in values.items())
    for name, value in values.items():
        if value.shape[:2] != shape:
            raise InputError(
                f"{first!r} has {shape[0]} chains of {shape[1]} draws and {name!r} has {value.shape[0]} of "
                f"{value.shape[1]}; all parameters need the same"
            )
    if shape[0] < 1 or shape[1] < FEWEST_DRAWS:
        raise InputError(f"there are {shape[0]} chains of {shape[1]} draws; at least {FEWEST_DRAWS} draws are needed")
    named = {name: ((*_DIMS, *_inner(name, value.ndim - 2)), value) for name, value in values.items()}
    return xr.Dataset(named, attrs=attributes)


def components(draws: xr.Dataset) -> tuple[list[str], np.ndarray]:
    """Takes draws apart into scalar components: their labels, and an array of shape (chains, draws, components).

    Args:
        draws: as :func:`posterior_draws` gives them.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.draws import components, posterior_draws
        >>> labels, values = components(posterior_draws({"mu": np.zeros((1, 9)), "theta": np.zeros((1, 9, 2))}))
        >>> labels, values.shape
        (['mu', 'theta[0]', 'theta[1]'], (1, 9, 3))
    """
    labels = [label for name, array in draws.items() for label in labels_of(str(name), array.shape[2:])]
    flat = [array.values.reshape(*array.shape[:2], -1) for array in draws.values()]
    return labels, np.concatenate(flat, axis=2)


def labels_of(name: str, shape: tuple[int, ...]) -> list[str]:
    """Names the scalar components of a parameter, in the order of its memory; they count from 0.

    Examples:
        >>> from ppl_vae.measure.draws import labels_of
        >>> labels_of("mu", ()), labels_of("scale", (2, 2))
        (['mu'], ['scale[0,0]', 'scale[0,1]', 'scale[1,0]', 'scale[1,1]'])
    """
    return [f"{name}[{','.join(map(str, index))}]" if shape else name for index in np.ndindex(shape)]


def constant(values: np.ndarray) -> np.ndarray:
    """Says which components don't vary: values of shape (..., components), the answer of shape (components,).

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.draws import constant
        >>> constant(np.array([[1.0, 1.0], [1.0, 2.0]])).tolist()
        [True, False]
    """
    flat = values.reshape(-1, values.shape[-1])
    return np.ptp(flat, axis=0) <= _ROUNDING * np.abs(flat).max(0)


def effective_draws(values: np.ndarray, method: str = "mean") -> np.ndarray:
    """Returns how many independent draws chains are worth, by ArviZ, for each component.

    Args:
        values: shape (chains, draws, components).
        method: "mean" for the error of the mean, "bulk" for that of ranks (Vehtari et al. 2021).

    Returns:
        Shape (components,); NaN where a component doesn't vary.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.draws import effective_draws
        >>> noise = np.random.default_rng(0).normal(size=(4, 1000, 1))
        >>> bool(effective_draws(np.cumsum(noise, axis=1)) < 100), bool(effective_draws(noise) > 3000)
        (True, True)
    """
    return _of_arviz("ess", values, method=method)


def split_r_hat(values: np.ndarray) -> np.ndarray:
    """Returns rank-normalized split r-hat by ArviZ (Vehtari et al. 2021): 1.01 and less says that chains agree.

    Args:
        values: shape (chains, draws, components).

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.draws import split_r_hat
        >>> apart = np.random.default_rng(0).normal(size=(2, 500, 1)) + np.array([[[0.0]], [[3.0]]])
        >>> bool(split_r_hat(apart)[0] > 1.5)
        True
    """
    return _of_arviz("rhat", values)


def mixing(draws: xr.Dataset) -> dict[str, float]:
    """Returns the largest r-hat and the smallest bulk effective sample size of all components that vary.

    Examples:
        >>> import numpy as np
        >>> from ppl_vae.measure.draws import mixing, posterior_draws
        >>> found = mixing(posterior_draws({"mu": np.random.default_rng(0).normal(size=(4, 1000))}))
        >>> found["max_r_hat"] < 1.01, found["min_ess_bulk"] > 2000
        (True, True)
    """
    values = components(draws)[1]
    values = values[:, :, ~constant(values)]
    if not values.shape[2]:
        return {"max_r_hat": float("nan"), "min_ess_bulk": float("nan")}
    return {"max_r_hat": float(split_r_hat(values).max()), "min_ess_bulk": float(effective_draws(values, "bulk").min())}


def _of_arviz(function: str, values: np.ndarray, **options: Any) -> np.ndarray:
    """Calls a function that ArviZ 0.23 and 1.x have alike, on a dataset."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ArviZ 0.23 announces its successor when it is imported
        import arviz

        with np.errstate(all="ignore"):  # of components that don't vary
            found = getattr(arviz, function)(xr.Dataset({"x": ((*_DIMS, "parameter"), values)}), **options)["x"]
    return np.where(constant(values), np.nan, np.asarray(found.values))


def _posterior_group(draws: Any) -> Mapping[Any, Any]:
    """Finds what holds the parameters by name."""
    if isinstance(draws, xr.Dataset):
        return draws
    if isinstance(draws, xr.DataTree):  # a mapping too, of groups
        if "posterior" not in draws.children:
            groups = ", ".join(map(str, draws.children)) or "none"
            raise InputError(f"the data have no group 'posterior'; their groups: {groups}")
        return draws["posterior"].to_dataset()
    if isinstance(group := getattr(draws, "posterior", None), xr.Dataset):
        return group
    if not isinstance(draws, Mapping):
        raise InputError(f"the draws are a {type(draws).__name__}; expected {_KINDS}")
    return draws


def _values(name: str, array: Any) -> np.ndarray:
    """Returns one parameter's draws as numbers of shape (chains, draws, ...)."""
    if isinstance(array, xr.DataArray):
        missing = [dim for dim in _DIMS if dim not in array.dims]
        if missing:
            raise InputError(f"{name!r} has the dimensions {array.dims}; it lacks {' and '.join(missing)}")
        array = array.transpose(*_DIMS, ...).values
    if isinstance(array, Tensor):
        array = array.detach().cpu().numpy()
    try:
        values = np.asarray(array).astype(np.float64, casting="same_kind" if np.iscomplexobj(array) else "unsafe")
    except (TypeError, ValueError):
        raise InputError(f"{name!r} is no array of real numbers; expected {_KINDS}") from None
    if values.ndim < 2:
        raise InputError(
            f"{name!r} has shape {values.shape}; expected (chains, draws, ...): a single chain needs a chain dimension "
            "of length 1"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{name!r} has NaN or infinity among its draws")
    return values


def _inner(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_dim_{number}" for number in range(count))
