"""Images are drawn as they are: 0 black, 1 white."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from matplotlib import colormaps
from matplotlib.figure import Figure

from ppl_vae import History
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE
from ppl_vae.plots.bounds import training_curves
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


def test_a_guide_called_x_has_a_row_beside_that_of_the_data():
    torch.manual_seed(0)
    pairs = {"x": (VAE(16, 2, hidden=(8,)), Amortized(Diagonal(2), 16, hidden=(8,)))}
    axes = reconstructions(pairs, (torch.ones(5, 16),), SHAPE).axes
    assert len(axes) == 10
    assert [row.get_ylabel() for row in axes[::5]] == ["x", "x"]
    assert axes[0].yaxis.label.get_color() == "black" != axes[5].yaxis.label.get_color()
    np.testing.assert_array_equal(axes[0].get_images()[0].get_array(), np.ones(SHAPE))


class Shifted(VAE):
    """A VAE whose prior is not N(0, I), and whose pixels are the latents."""

    def prior(self, *given):
        return dist.Normal(torch.tensor([10.0, -5.0]), torch.tensor([2.0, 0.5])).to_event(1)

    def likelihood(self, z, *given):
        return dist.Normal(z, 1.0).to_event(1)


def test_the_manifold_lies_where_the_prior_does():
    (canvas,) = manifold(Shifted(2, 2), (1, 2), side=3).axes[0].get_images()
    drawn = np.asarray(canvas.get_array())
    step = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(5 / 6)).item()
    np.testing.assert_allclose(drawn[4, [1, 5, 9]], [10 - 2 * step, 10, 10 + 2 * step], rtol=1e-5)
    np.testing.assert_allclose(drawn[[1, 4, 7], 2], [-5 + step / 2, -5, -5 - step / 2], rtol=1e-5)


@pytest.mark.parametrize("elbo", [[], [float("-inf")] * 3, [float("nan"), -2.0, -1.0]])
def test_a_training_that_gave_no_number_is_drawn_as_far_as_it_gave_some(elbo):
    axes = training_curves({"full": History(size=10, elbo=elbo, seconds=[0.1] * len(elbo))}).axes[0]
    low, high = axes.get_ylim()
    assert np.isfinite([low, high]).all()
    assert low < high
