"""Where minibatches come from: tensors, or a DataLoader for data that are streamed or larger than memory."""

import numpy as np
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset

from ppl_vae import fit
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE, ConditionalVAE, EightSchools
from ppl_vae.training.batches import batches
from ppl_vae.training.optimizers import cooldown

CPU = torch.device("cpu")
OBSERVED = 12


def pair():
    torch.manual_seed(0)
    return VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))


def bits(rows=23):
    torch.manual_seed(0)
    return torch.full((rows, OBSERVED), 0.3).bernoulli()


class OnDisk(Dataset):
    """Rows of a file that is mapped into memory, in each worker by itself."""

    def __init__(self, path):
        self.path = path
        self.length = len(np.load(path, mmap_mode="r"))

    def __len__(self):
        return self.length

    def __getitem__(self, row):
        return torch.from_numpy(np.array(np.load(self.path, mmap_mode="r")[row]))


def test_a_loader_trains_as_the_tensor_does():
    """One batch of all rows in their order, so both see the same."""
    x = bits()
    histories = []
    for data in (x, DataLoader(TensorDataset(x), batch_size=len(x))):
        model, guide = pair()
        histories.append(fit(model, guide, data, epochs=150, batch_size=len(x), progress=False, seed=1))
    assert histories[0].size == histories[1].size == 23
    # the tensor's rows are shuffled, so the noise falls on other rows: the same distribution of the curve's end
    ends = [torch.tensor(history.elbo[-50:]).double() for history in histories]
    error = sum(end.var() / len(end) for end in ends).sqrt()
    assert abs(ends[0].mean() - ends[1].mean()) < 4 * error
    assert ends[0].mean() > histories[0].elbo[0] + 0.5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_memory_mapped_file_is_streamed(tmp_path, workers):
    x = bits()
    np.save(tmp_path / "x.npy", x.numpy())
    loader = DataLoader(OnDisk(tmp_path / "x.npy"), batch_size=5, shuffle=True, num_workers=workers)
    seen = []

    def watch(batch):
        seen.append(batch.clone())
        return batch

    model, guide = pair()
    history = fit(model, guide, loader, epochs=2, transform=watch, progress=False)
    assert history.size == 23
    assert [len(batch) for batch in seen[1:]] == [5, 5, 5, 5, 3] * 2  # the first is the run that finds the parameters
    for epoch in torch.cat(seen[1:]).split(23):
        assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, x.tolist()))


def test_a_loader_of_several_tensors_and_one_that_drops_the_last():
    x, y = bits(), torch.randn(23, 3)
    loader = DataLoader(TensorDataset(x, y), batch_size=5, drop_last=True)
    model = ConditionalVAE(OBSERVED, 2, 3, hidden=(8,))
    guide = Amortized(Diagonal(2), OBSERVED, hidden=(8,), given_dim=3)
    history = fit(model, guide, loader, epochs=2, progress=False)
    assert history.size == 20
    assert np.isfinite(history.elbo).all()


class Chunks(Dataset):
    """Whole batches for items, as data on disk often have them."""

    def __init__(self, x):
        self.parts = x.split(5)

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, number):
        return self.parts[number]


def test_the_elbo_counts_the_rows_that_a_loader_gave():
    loaders = [
        DataLoader(TensorDataset(bits()), batch_size=5),
        DataLoader(Chunks(bits()), batch_size=None),
        DataLoader(bits(), batch_sampler=BatchSampler(range(23), 5, drop_last=False)),
        DataLoader(torch.cat([bits(), bits()]), batch_size=5, sampler=range(23)),
    ]
    found = [fit(*pair(), loader, epochs=2, progress=False, seed=0) for loader in loaders]
    assert [history.size for history in found] == [23] * 4
    for history in found[1:]:
        assert history.elbo == pytest.approx(found[0].elbo, rel=1e-6)


def test_a_captured_fit_takes_a_loader_too():
    curves = []
    for capture in (False, True):
        model, guide = pair()
        loader = DataLoader(TensorDataset(bits()), batch_size=5, shuffle=True)
        curves.append(fit(model, guide, loader, epochs=8, progress=False, seed=3, capture=capture).elbo)
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


class Endless(IterableDataset):
    def __iter__(self):
        yield bits(1)[0]


class Named(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, row):
        return {"x": bits(1)[0]}


ERRORS = {
    "no length": (lambda: DataLoader(Endless()), "the DataLoader's dataset has no length: give it a __len__"),
    "empty": (
        lambda: DataLoader(TensorDataset(bits(3)), batch_size=5, drop_last=True),
        "the DataLoader is empty: fit needs at least one row",
    ),
    "names": (lambda: DataLoader(Named()), r"the DataLoader yields \['dict'\]; expected one tensor or several"),
    "NaN": (
        lambda: DataLoader(TensorDataset(bits() * torch.nan)),
        "a batch of the DataLoader .its tensor 0. has NaN or infinity in 1 of 1 rows",
    ),
}


@pytest.mark.parametrize("error", ERRORS)
def test_bad_loaders_get_one_line(error):
    make, message = ERRORS[error]
    with pytest.raises(ValueError, match=message) as caught:
        fit(*pair(), make(), progress=False)
    assert "\n" not in str(caught.value)


def test_tensors_are_shuffled_anew_in_each_epoch():
    source = batches(torch.arange(50.0)[:, None], 20, CPU)
    assert (source.size, source.steps, source.even) == (50, 3, False)
    first, second = (torch.cat([batch[0] for batch in source.epoch()]).flatten() for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, torch.arange(50.0))


def test_one_batch_of_all_rows_keeps_their_order():
    (x,) = next(batches(torch.arange(50.0)[:, None], 50, CPU).epoch())
    assert torch.equal(x, torch.arange(50.0)[:, None])


def test_an_autoguide_learns_each_row_by_its_place():
    model, (x, sigma) = EightSchools(), EightSchools.example_data()
    guide, data = AutoNormal(model), (x, sigma / 10)
    fit(model, guide, data, lr=0.05, epochs=400, schedule=cooldown, seed=0, progress=False)
    assert torch.equal(guide.median(*data)["theta_raw"].argsort(), x.argsort())
