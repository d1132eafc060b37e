"""Images are drawn as they are: 0 black, 1 white."""

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure

from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.plots.gaps import khat_by_image
from ppl_vae.plots.images import manifold, reconstructions, samples, show_image

SHAPE = (4, 4)


def khat(model, guide, x):
    found = xr.Dataset({"khat": ("data", np.linspace(0, 1, len(x)))}, attrs={"khat_threshold": 0.7})
    return khat_by_image(found, x, SHAPE)


FIGURES = {
    "reconstructions": lambda model, guide, x: reconstructions({"diagonal": (model, guide)}, (x,), SHAPE),
    "samples": lambda model, guide, x: samples(model, SHAPE, side=3),
    "manifold": lambda model, guide, x: manifold(model, SHAPE, side=3),
    "khat": khat,
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_of_images_maps_0_to_black_and_1_to_white(name):
    torch.manual_seed(0)
    figure = FIGURES[name](VAE(16, 2, hidden=(8,)), Amortized(Diagonal(2), 16, hidden=(8,)), torch.rand(5, 16))
    drawn = [image for axes in figure.findobj(lambda part: hasattr(part, "get_images")) for image in axes.get_images()]
    assert drawn
    for image in drawn:
        shades = image.cmap(image.norm(np.array([0.0, 0.5, 1.0])))[:, :3]
        np.testing.assert_allclose(shades, [[0] * 3, [0.5] * 3, [1] * 3], atol=0.01)


def test_an_image_outside_its_range_keeps_black_and_white():
    axes = Figure().add_subplot()
    show_image(axes, torch.tensor([-1.0, 0.2, 0.4, 3.0]), (2, 2))
    image = axes.get_images()[0]
    assert (image.norm.vmin, image.norm.vmax, image.cmap) == (0, 1, colormaps["gray"])
    np.testing.assert_allclose(image.get_array(), [[-1.0, 0.2], [0.4, 3.0]], rtol=1e-6)
