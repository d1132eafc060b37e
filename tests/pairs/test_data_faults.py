"""Data with NaN, outside the likelihood's support or of another width: one sentence, whatever reads them."""

from functools import partial

import pyro.distributions as dist
import pytest
import torch
from measures import measures
from pyro.infer import Trace_ELBO

from ppl_vae import InputError, check, refine
from ppl_vae.evidence import annealed, exact_evidence, quadrature, sandwich
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE, LinearGaussian
from ppl_vae.pairs.mistakes import not_finite


class Positive(VAE):
    def likelihood(self, z, *given):
        return dist.Gamma(self.decoder(z).exp(), 1.0).to_event(1)


def vae(model=VAE):
    torch.manual_seed(0)
    return model(8, 2, hidden=(8,)), Amortized(Diagonal(2), 8, hidden=(8,))


def bad(value, row=37):
    x = torch.full((40, 8), 0.3).bernoulli()
    x[row, 2] = value
    return x


FAULTS = {
    "nan": (VAE, bad(torch.nan), "NaN or infinity in 1 of 40 rows, first in row 37: drop or fill these rows"),
    "support": (VAE, bad(0.5), r"the support of the likelihood at 'x', .*Boolean\(\), 1\), does not hold the data"),
    "edge": (Positive, 0.5 + bad(-0.5), "at .x. is NaN or infinite: look for .* data at the edge"),
    "width": (VAE, bad(1.0)[:, :6], "a network is given 6 numbers .* and takes 8|each data point has shape"),
}
READERS = measures(Trace_ELBO) | {
    "annealed from the prior": lambda model, guide, x: annealed(model, None, x, steps=3, chains=2),
    "refine": partial(refine, steps=1, rounds=1),
    "quadrature": lambda model, guide, x: quadrature(model, x, nodes=5),
    "exact": lambda model, guide, x: exact_evidence(model, x),
    "sandwich": lambda model, guide, x: sandwich(model, x, steps=3, chains=2),
}


@pytest.mark.parametrize("measure", READERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_data_that_do_not_fit_are_told_in_the_words_of_check(fault, measure):
    make, x, message = FAULTS[fault]
    if measure == "sandwich" and fault in ("support", "edge"):
        pytest.skip("sandwich draws the data itself")
    model, guide = vae(make)
    with pytest.raises(InputError, match=message) as caught:
        READERS[measure](model, guide, x)
    assert "\n" not in str(caught.value)
    if fault != "width" and (fault, measure) != ("nan", "fit"):  # a model alone has another network that is too narrow
        assert str(caught.value).split(", which go")[0] == check(model, guide, x)[0].split(", which go")[0]


def test_nan_is_told_where_log_p_is_in_closed_form():
    x = torch.randn(40, 8)
    x[37, 2] = torch.nan
    with pytest.raises(InputError, match="argument 0 has NaN or infinity in 1 of 40 rows, first in row 37"):
        exact_evidence(LinearGaussian(8, 2), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad_values", [[], [torch.nan], [torch.inf], [-torch.inf], [torch.inf, -torch.inf]])
@pytest.mark.parametrize("size", [1.0, 6e4, "largest"])
def test_numbers_that_are_not_finite_are_told_from_large_ones(dtype, bad_values, size):
    """Large numbers are no infinity, though their sum is."""
    largest = torch.finfo(dtype).max if size == "largest" else size
    table = torch.full((3000, 4), largest, dtype=dtype).T.contiguous().T
    for row, value in zip((1500, 2600), bad_values, strict=False):
        table[row, 2] = value
    where = f"{len(bad_values)} of 3000 rows, first in row 1500: drop or fill these rows"
    assert list(not_finite("x", table)) == [f"x has NaN or infinity in {where}"] * bool(bad_values)
