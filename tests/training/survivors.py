"""Trainings that are to survive a SIGKILL: what of theirs a checkpoint must hold to end as one without a break.

Each set-up is a function that gives the arguments of ``fit``, made anew in each process.
"""

import random
from contextlib import suppress
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.optim
import torch
from pyro.infer import (
    JitTrace_ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
    config_enumerate,
)
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoMultivariateNormal, AutoNormal
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, RMSprop
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler, TensorDataset

from ppl_vae import cooldown, cosine, fit, no_guide
from ppl_vae.estimators import IWAE, RELAX, DisARM, Enumeration, LeaveOneOut, NeuralBaseline, PathwiseKL, RunningMean
from ppl_vae.guides import IAF, Amortized, Bernoulli, Diagonal, PerDatapoint
from ppl_vae.models import VAE, BernoulliVAE, EightSchools, GaussianMixture, LinearRegression
from ppl_vae.pairs.modules import modules_of

OBSERVED, ROWS = 12, 40


def data():
    return torch.rand(ROWS, OBSERVED, generator=torch.Generator().manual_seed(7))


def pixels():
    return (data() > 0.5).float()


def normal(**changed):
    model, guide = VAE(OBSERVED, 2, hidden=(8,)), Amortized(Diagonal(2), OBSERVED, hidden=(8,))
    return {"model": model, "guide": guide, "data": data(), "transform": torch.bernoulli} | changed


def bits(**changed):
    model, guide = BernoulliVAE(OBSERVED, 3, hidden=(8,)), Amortized(Bernoulli(3), OBSERVED, hidden=(8,))
    return {"model": model, "guide": guide, "data": data(), "transform": torch.bernoulli} | changed


def double(given):
    return given | {name: given[name].double() for name in ("model", "guide", "data")}


def baseline(kind):
    """A guide in plain Pyro whose site has one of ``TraceGraph_ELBO``'s own baselines."""

    class Guide(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.baseline = nn.Linear(OBSERVED, 3), nn.Linear(OBSERVED, 1)

        def forward(self, x):
            pyro.module("guide", self)
            options = {"use_decaying_avg_baseline": True, "baseline_beta": 0.8}
            if kind == "network":
                options = {"nn_baseline": lambda x: self.baseline(x).squeeze(-1), "nn_baseline_input": x}
            with pyro.plate("data", len(x)):
                bits = dist.Bernoulli(logits=self.encoder(x)).to_event(1)
                pyro.sample("z", bits, infer={"baseline": options})

    return bits(guide=Guide(), elbo=TraceGraph_ELBO(), batch_size=20)


class Layers(nn.Module):
    """A network with batch normalization and dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(OBSERVED, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        pyro.module("layers", self)
        loc, log_scale = self.last(self.layers(x)).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def subsampled(**changed):
    """Functions with their parameters in the store, and a plate that subsamples."""

    def model(x):
        loc = pyro.sample("loc", dist.Normal(0.0, 10.0))
        with pyro.plate("data", len(x), subsample_size=10, dim=-1) as rows:
            pyro.sample("x", dist.Normal(loc, 1.0), obs=x[rows])

    def guide(x):
        where = pyro.param("where", torch.tensor(0.0))
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        pyro.sample("loc", dist.Normal(where, scale))

    return {"model": model, "guide": guide, "data": data()[:, 0], "batch_size": ROWS} | changed


def enumerated(**changed):
    def model(x):
        weights = pyro.param("weights", torch.tensor([0.4, 0.6]), constraint=dist.constraints.simplex)
        places = pyro.param("places", torch.randn(2, OBSERVED))
        with pyro.plate("data", len(x)):
            kind = pyro.sample("kind", dist.Categorical(weights), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(places[kind], 1.0).to_event(1), obs=x)

    return {"model": model, "guide": no_guide, "data": data(), "elbo": TraceEnum_ELBO(max_plate_nesting=1)} | changed


def schools(guide, **changed):
    model = EightSchools()
    made = guide(model)
    return {"model": model, "guide": made, "data": EightSchools.example_data(), "epochs": 120} | changed


def regression(**changed):
    given = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(3))
    model = LinearRegression(3)
    return {
        "model": model,
        "guide": AutoMultivariateNormal(model),
        "data": (data()[:, 0], given),
        "batch_size": ROWS,
    } | changed


def by_numpy(x):
    return (x > torch.from_numpy(np.random.rand(*x.shape)).float()).float()


def by_random(x):
    return (x > random.random()).float()


def by_its_own(generator):
    """A transform that draws from a generator of its own."""
    if isinstance(generator, torch.Generator):
        return lambda x: torch.bernoulli(x, generator=generator)
    if isinstance(generator, random.Random):
        return lambda x: (x > generator.random()).float()
    return lambda x: (x > torch.from_numpy(generator.random(x.shape)).float()).float()


class Flipped(Dataset):
    """Rows of which some are flipped, by a generator that it holds."""

    def __init__(self):
        self.rows, self.generator = pixels(), np.random.default_rng(4)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index].flip(0) if self.generator.random() < 0.5 else self.rows[index]


class Noisy(Flipped):
    """Rows with noise of torch's own generator, which is each worker's."""

    def __getitem__(self, index):
        return torch.bernoulli(self.rows[index] * 0.8 + 0.1)


class Ordered(Sampler):
    """An order by numpy's generator, in a sampler of one's own."""

    def __init__(self):
        self.generator = np.random.Generator(np.random.MT19937(5))

    def __iter__(self):
        return iter(self.generator.permutation(ROWS).tolist())

    def __len__(self):
        return ROWS


def loaded(dataset=None, **options):
    loader = DataLoader(TensorDataset(pixels()) if dataset is None else dataset, batch_size=16, **options)
    return normal(data=loader, transform=None)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def two_rates(leaves):
    leaves = list(leaves)
    return Adam([{"params": leaves[:3], "lr": 0.01}, {"params": leaves[3:]}], lr=0.001)


ESTIMATORS = {
    "pathwise": normal,
    "analytic KL": lambda: normal(elbo=TraceMeanField_ELBO()),
    "own analytic KL": lambda: normal(elbo=PathwiseKL(2)),
    "running mean": lambda: bits(elbo=RunningMean(2)),
    "running mean, captured": lambda: bits(elbo=RunningMean(2), capture=True),
    "neural baseline": lambda: bits(elbo=NeuralBaseline(2), capture=True),
    "leave one out": lambda: bits(elbo=LeaveOneOut(3)),
    "DisARM": lambda: bits(elbo=DisARM(), capture=True),
    "IWAE": lambda: normal(elbo=IWAE(4)),
    "RELAX": lambda: bits(elbo=RELAX()),
    "RELAX, captured": lambda: bits(elbo=RELAX(), capture=True),
    "enumeration": enumerated,
    "enumeration, guessed": lambda: enumerated(elbo=TraceEnum_ELBO(), capture=True),
    "own enumeration": lambda: bits(elbo=Enumeration()),
    "TMC": lambda: normal(elbo=TraceTMC_ELBO(num_particles=2, vectorize_particles=True)),
    "graph": lambda: bits(elbo=TraceGraph_ELBO()),
    "graph, vectorized": lambda: bits(elbo=TraceGraph_ELBO(num_particles=2, vectorize_particles=True), capture=True),
    "graph, average baseline": lambda: baseline("average"),
    "graph, neural baseline": lambda: baseline("network"),
    "Renyi": lambda: normal(elbo=RenyiELBO(0.5, num_particles=3, vectorize_particles=True)),
    "Renyi, one by one, captured": lambda: normal(elbo=RenyiELBO(0.5, num_particles=3), capture=True),
    "wake-sleep": lambda: bits(elbo=ReweightedWakeSleep(num_particles=3)),
    "tail-adaptive": lambda: normal(elbo=TraceTailAdaptive_ELBO(num_particles=3, vectorize_particles=True)),
    "vectorized": lambda: normal(elbo=Trace_ELBO(num_particles=3, vectorize_particles=True)),
    "vectorized, captured": lambda: normal(elbo=Trace_ELBO(num_particles=3, vectorize_particles=True), capture=True),
    "one by one, captured": lambda: normal(elbo=Trace_ELBO(num_particles=3), capture=True),
    "jitted": lambda: normal(elbo=JitTrace_ELBO(), batch_size=20),
    "jitted, vectorized": lambda: normal(elbo=JitTrace_ELBO(num_particles=2, vectorize_particles=True), batch_size=20),
}
OPTIMIZERS = {
    "AdamW, cosine": lambda: normal(optimizer=partial(AdamW, lr=0.01), schedule=cosine),
    "SGD with momentum": lambda: normal(optimizer=partial(SGD, lr=1e-3, momentum=0.9, nesterov=True)),
    "Adagrad": lambda: normal(optimizer=partial(Adagrad, lr=0.01), capture=True),
    "NAdam": lambda: normal(optimizer=partial(NAdam, lr=0.01), schedule=cooldown),
    "NAdam, double": lambda: double(normal(optimizer=partial(NAdam, lr=0.01))),
    "RMSprop, centered": lambda: normal(optimizer=partial(RMSprop, lr=0.001, centered=True), capture=True),
    "amsgrad": lambda: normal(optimizer=partial(Adam, lr=0.01, amsgrad=True), schedule=cosine, capture=True),
    "clipped Adam": lambda: normal(optimizer=pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.99})),
    "AdagradRMSProp": lambda: normal(optimizer=pyro.optim.AdagradRMSProp({"eta": 0.1})),
    "two rates": lambda: normal(optimizer=two_rates, schedule=cosine),
}
COMPUTING = {
    "captured": lambda: normal(capture=True),
    "captured flow": lambda: normal(
        guide=Amortized(IAF(2, hidden=(8,), context=3), OBSERVED, hidden=(8,)), capture=True, schedule=cosine
    ),
    "bfloat16": lambda: normal(precision="bf16"),
    "bfloat16, captured": lambda: normal(precision="bf16", capture=True),
    "double": lambda: double(normal(capture=True)),
    "sparse table": lambda: normal(
        guide=PerDatapoint(Diagonal(2), ROWS), data=(data(), torch.arange(ROWS)), transform=torch.bernoulli
    ),
    "batch normalization and dropout": lambda: normal(guide=Layers(), capture=False),
    "batch normalization and dropout, captured": lambda: normal(guide=Layers(), capture=True, batch_size=20),
    "mixture": lambda: {"model": GaussianMixture(OBSERVED, 2), "guide": no_guide, "data": data(),
                        "elbo": TraceEnum_ELBO(max_plate_nesting=1)},
}  # fmt: skip
SHARED = {
    "eight schools": lambda: schools(AutoNormal),
    "eight schools, captured": lambda: schools(AutoLowRankMultivariateNormal, capture=True),
    "eight schools, scheduled": lambda: schools(
        AutoNormal, schedule=cosine, elbo=Trace_ELBO(4, vectorize_particles=True)
    ),
    "regression": regression,
    "subsampled": subsampled,
    "subsampled, captured": lambda: subsampled(capture=True),
    "configured": lambda: enumerated(model=config_enumerate(enumerated()["model"])),
}
INPUTS = {
    "numpy": lambda: normal(transform=by_numpy),
    "random": lambda: normal(transform=by_random, capture=True),
    "own torch generator": lambda: normal(transform=by_its_own(seeded(1))),
    "own numpy generator": lambda: normal(transform=by_its_own(np.random.default_rng(2))),
    "own old numpy generator": lambda: normal(transform=Old(2)),
    "own Python generator": lambda: normal(transform=by_its_own(random.Random(3)), capture=True),
    "shuffled": lambda: loaded(shuffle=True),
    "loader's generator": lambda: loaded(shuffle=True, generator=seeded(8)),
    "sampler's generator": lambda: loaded(sampler=RandomSampler(range(ROWS), generator=seeded(9))),
    "own sampler": lambda: loaded(sampler=Ordered()),
    "dataset's generator": lambda: loaded(Flipped()),
    "workers": lambda: loaded(Noisy(), shuffle=True, num_workers=2),
    "workers, generator": lambda: loaded(Noisy(), shuffle=True, num_workers=2, generator=seeded(6)),
}


class Old:
    """A transform that is an object with numpy's older generator."""

    def __init__(self, seed):
        self.generator = np.random.RandomState(seed)

    def __call__(self, x):
        return (x > torch.from_numpy(self.generator.rand(*x.shape)).float()).float()


SET_UPS = ESTIMATORS | OPTIMIZERS | COMPUTING | SHARED | INPUTS
SELDOM = {  # too long, or of several processes: the long form alone
    "compiled": lambda: normal(capture="compile", epochs=20),
    "two processes": lambda: normal(capture=False),
    "two processes, running mean": lambda: bits(elbo=RunningMean(2)),
}


def trained(name, place=None, epochs=None):
    """Trains a set-up, or goes on; gives the curve, all parameters and buffers, and the seconds that epochs took."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    given = (SET_UPS | SELDOM)[name]()
    options = {"batch_size": 16, "epochs": 30, "seed": 3, "capture": False, "progress": False} | given
    if epochs is not None:
        options["epochs"] = epochs
    model, guide, x = (options.pop(key) for key in ("model", "guide", "data"))
    history = fit(model, guide, x, checkpoint=place, **options)
    leaves = [leaf for module in modules_of(model, guide) for leaf in (*module.parameters(), *module.buffers())]
    with suppress(KeyError):
        leaves += list(pyro.get_param_store().get_state()["params"].values())
    return (
        torch.tensor(history.elbo, dtype=torch.float64),
        [leaf.detach().clone() for leaf in leaves],
        sum(history.seconds),
    )
