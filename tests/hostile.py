"""Every public function, and values that its parameters are not made for: calls of the one with the other."""

import inspect
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import JitTrace_ELBO, RenyiELBO, Trace_ELBO
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ppl_vae
from ppl_vae import evidence
from ppl_vae.guides import Amortized, Diagonal
from ppl_vae.models import VAE

PIXELS, ROWS = 6, 8
Maker = Callable[[], Any]


def bits(rows=ROWS, pixels=PIXELS):
    return torch.full((rows, pixels), 0.4).bernoulli(generator=torch.Generator().manual_seed(0))


def model(latents=2):
    return VAE(PIXELS, latents, hidden=(4,))


def guide(latents=2):
    return Amortized(Diagonal(latents), PIXELS, hidden=(4,))


class Silent(nn.Module):
    """A model that observes nothing."""

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))


class Renamed(nn.Module):
    """A guide of another latent."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            pyro.sample("other", dist.Normal(self.loc, 1.0).to_event(1))


class Raising(nn.Module):
    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        raise KeyError("a key\nand another line")


class Twice(nn.Module):
    """One name for two sites."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        with pyro.plate("data", len(x)):
            for _ in range(2):
                pyro.sample("z", dist.Normal(self.loc, 1.0).to_event(1))


def lazy():
    """A guide whose layer does not know its width yet, and is given no data: it is used before it is made."""
    made = guide()
    made.other = nn.LazyLinear(3)
    return made


def generated():
    yield bits()


async def asynchronous(x):
    return x


def of_rows(rows):
    return lambda: bits()[:rows]


def sparse(layout):
    return lambda: bits().to_sparse(layout=layout)


def loader(**options):
    return lambda: DataLoader(TensorDataset(bits()), batch_size=4, **options)


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return "word"


# what is no argument of the kind, and what may be one: it is refused in one line, or gives what it should
DATA = {
    "None": lambda: None,
    "a number": lambda: 5,
    "a word": lambda: "mnist",
    "bytes": lambda: b"01",
    "an object": object,
    "no list": list,
    "no tuple": tuple,
    "numbers": lambda: [1, 2],
    "rows in lists": lambda: bits().tolist(),
    "an array": lambda: bits().numpy(),
    "a list of arrays": lambda: [bits().numpy()],
    "a dict": lambda: {"x": bits()},
    "a set": lambda: {1, 2},
    "a generator": generated,
    "a range": lambda: range(4),
    "no rows": of_rows(0),
    "no columns": lambda: torch.zeros(ROWS, 0),
    "a scalar": lambda: torch.tensor(1.0),
    "one axis": lambda: bits()[:, 0],
    "three axes": lambda: bits()[:, None],
    "narrow": lambda: bits()[:, :4],
    "int": lambda: bits().long(),
    "uint8": lambda: bits().byte(),
    "bool": lambda: bits().bool(),
    "complex": lambda: bits().to(torch.complex64),
    "half": lambda: bits().half(),
    "double": lambda: bits().double(),
    "COO": sparse(torch.sparse_coo),
    "CSR": sparse(torch.sparse_csr),
    "meta": lambda: bits().to("meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "quantized": lambda: torch.quantize_per_tensor(bits(), 0.1, 0, torch.quint8),
    "NaN": lambda: bits().index_fill(0, torch.tensor([3]), torch.nan),
    "infinity": lambda: bits().index_fill(0, torch.tensor([3]), torch.inf),
    "grey": lambda: bits() * 0.5,
    "other lengths": lambda: (bits(), bits(5)),
    "something else beside": lambda: (bits(), "index"),
    "None beside": lambda: (bits(), None),
    "None first": lambda: (None, bits()),
    "a pair's program": model,
    "a class": lambda: VAE,
    "a shuffling loader": loader(shuffle=True),
    "a loader of words": lambda: DataLoader(Words()),
    "an empty loader": lambda: DataLoader(TensorDataset(torch.zeros(0, PIXELS))),
    "an iterator of a loader": lambda: iter(loader()()),
    "a dataset": lambda: TensorDataset(bits()),
}
SOUND_DATA = {
    "a gradient": lambda: bits().requires_grad_(),
    "a result": lambda: bits().requires_grad_() * 1,
    "a parameter": lambda: nn.Parameter(bits()),
    "strided": lambda: bits(ROWS, 2 * PIXELS)[:, ::2],
    "transposed": lambda: bits().T.contiguous().T,
    "expanded": lambda: bits(1).expand(ROWS, PIXELS),
    "one row": of_rows(1),
    "two rows": of_rows(2),
    "a list": lambda: [bits()],
    "a loader": loader(),
    "in inference": lambda: _in_inference(),
}


def _in_inference():
    with torch.inference_mode():
        return bits()


NO_PROGRAMS = {
    "None": lambda: None,
    "a number": lambda: 5,
    "a word": lambda: "vae",
    "a class": lambda: VAE,
    "a tuple": lambda: (model(), guide()),
    "a dict": lambda: {"model": model()},
    "a tensor": bits,
    "a distribution": lambda: dist.Normal(0.0, 1.0),
    "without arguments": lambda: lambda: None,
    "of nothing": lambda: lambda x: None,
    "of two arguments": lambda: lambda x, y: None,
    "a layer": lambda: nn.Linear(PIXELS, 2),
    "a generator's function": lambda: generated,
    "a coroutine": lambda: asynchronous,
    "built in": lambda: len,
    "raising": Raising,
    "a name twice": Twice,
    "lazy": lazy,
    "wide": lambda: nn.Sequential(nn.LazyLinear(3)),
}
MODELS = NO_PROGRAMS | {
    "a guide": guide,
    "silent": Silent,
    "other latents": lambda: model(3),
    "narrow": lambda: VAE(4, 2, hidden=(4,)),
    "double": lambda: model().double(),
    "half": lambda: model().half(),
    "meta": lambda: model().to("meta"),
    "a family": lambda: Diagonal(2),
}
GUIDES = NO_PROGRAMS | {
    "a model": model,
    "renamed": Renamed,
    "other latents": lambda: guide(3),
    "narrow": lambda: Amortized(Diagonal(2), 4, hidden=(4,)),
    "double": lambda: guide().double(),
    "half": lambda: guide().half(),
    "meta": lambda: guide().to("meta"),
    "a family": lambda: Diagonal(2),
}
NO_COUNTS = {
    "-1": lambda: -1,
    "1.5": lambda: 1.5,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "a word": lambda: "3",
    "a list": lambda: [3],
    "True": lambda: True,
    "complex": lambda: 3j,
    "an object": object,
    "a tensor of two": lambda: torch.ones(2),
    "2**64": lambda: 2**64,
    "an array's": lambda: np.float64(3.0),
}
SEEDS = {
    "-1": lambda: -1,
    "2**64": lambda: 2**64,
    "1.5": lambda: 1.5,
    "NaN": lambda: float("nan"),
    "a word": lambda: "seed",
    "True": lambda: True,
    "a list": lambda: [1],
    "an object": object,
    "a generator": lambda: torch.Generator(),
}
NUMBERS = {
    "-1": lambda: -1.0,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "a word": lambda: "0.1",
    "a list": lambda: [0.1],
    "complex": lambda: 1j,
    "an object": object,
    "True": lambda: True,
}
WORDS = {
    "None": lambda: None,
    "a number": lambda: 5,
    "a word": lambda: "no such thing",
    "nothing": lambda: "",
    "a list": lambda: ["auto"],
    "an object": object,
}
FUNCTIONS = {
    "a number": lambda: 5,
    "a word": lambda: "torch.bernoulli",
    "a list": lambda: [torch.bernoulli],
    "without arguments": lambda: lambda: None,
    "of nothing": lambda: lambda given: None,
    "of words": lambda: lambda given: "word",
    "of NaN": lambda: lambda given: given * float("nan"),
    "raising": lambda: Raising().forward,
}
ELBOS = {
    "a word": lambda: "Trace_ELBO",
    "a class": lambda: Trace_ELBO,
    "a number": lambda: 5,
    "a function": lambda: lambda *given: torch.zeros(()),
    "a list": lambda: [Trace_ELBO()],
    "no particles": lambda: Trace_ELBO(num_particles=0),
    "half a particle": lambda: Trace_ELBO(num_particles=1.5),
    "Renyi": lambda: RenyiELBO(alpha=0.5, num_particles=2),
    "compiled": lambda: JitTrace_ELBO(),
    "no plates": lambda: Trace_ELBO(max_plate_nesting=0, vectorize_particles=True, num_particles=2),
}
OPTIMIZERS = {
    "a word": lambda: "adam",
    "a number": lambda: 5,
    "made": lambda: torch.optim.Adam([nn.Parameter(torch.zeros(()))]),
    "of nothing": lambda: lambda leaves: None,
    "of words": lambda: lambda leaves: "adam",
    "without arguments": lambda: lambda: None,
    "without a rate": lambda: torch.optim.SGD,
    "raising": lambda: Raising().forward,
    "of another network": lambda: lambda leaves: torch.optim.Adam([nn.Parameter(torch.zeros(()))]),
}
DEVICES = {
    "None": lambda: None,
    "a number": lambda: 99,
    "a word": lambda: "abc",
    "nothing": lambda: "",
    "cuda": lambda: "cuda:99",
    "meta": lambda: "meta",
    "an object": object,
    "a list": lambda: ["cpu"],
    "True": lambda: True,
    "mps": lambda: "mps",
    "negative": lambda: -1,
}
OPTIONS = {
    "a number": lambda: 5,
    "a word": lambda: "steps",
    "a list": lambda: ["steps"],
    "an unknown one": lambda: {"no_such_option": 1},
    "a bad one": lambda: {"steps": -1},
    "another's": lambda: {"progress": True},
    "a number's name": lambda: {5: 1},
}
CURVES = {
    "a number": lambda: 5,
    "a word": lambda: "abc",
    "words": lambda: ["1", "2"],
    "nothing": list,
    "0": lambda: [0],
    "1.5": lambda: [1.5],
    "NaN": lambda: [float("nan")],
    "True": lambda: [True],
    "too many": lambda: [10**9],
    "lists": lambda: [[1]],
    "None": lambda: [None],
    "mixed": lambda: [1, "2"],
    "an object": object,
    "a tensor": lambda: torch.tensor([1.5]),
}
GUIDES_BY_NAME = {
    "nothing": dict,
    "None": lambda: None,
    "a guide": guide,
    "a list": lambda: [guide()],
    "a word": lambda: {"a": "diagonal"},
    "of None": lambda: {"a": None},
    "a class": lambda: {"a": Amortized},
    "a model": lambda: {"a": model()},
    "a name that is none": lambda: {5: guide()},
    "two names that are none": lambda: {5: guide(), "a": guide()},
    "model": lambda: {"model": guide()},
    "other latents": lambda: {"a": guide(3), "b": guide()},
    "renamed": lambda: {"a": Renamed()},
    "lazy": lambda: {"a": lazy()},
    "a family": lambda: {"a": Diagonal(2)},
}
REFERENCES = {
    "None": lambda: None,
    "a number": lambda: 5,
    "a word": lambda: "nuts",
    "a list": lambda: [1.0],
    "a tensor": bits,
    "an empty dict": dict,
    "words": lambda: {"z": "abc"},
    "another name": lambda: {"y": np.random.default_rng(0).normal(size=(1, 30, ROWS, 2))},
    "another shape": lambda: {"z": np.random.default_rng(0).normal(size=(1, 30, 5))},
    "NaN": lambda: {"z": np.full((1, 30, ROWS, 2), np.nan)},
    "constant": lambda: {"z": np.zeros((1, 30, ROWS, 2))},
    "an object": object,
}
GRADIENTS = {
    "a number": lambda: 5,
    "a word": lambda: "exact",
    "a tensor": lambda: torch.zeros(3),
    "of another pair": lambda: _reference(3),
}
CHECKPOINTS = {
    "a number": lambda: 5,
    "nothing": lambda: "",
    "a folder": lambda: "/",
    "no folder": lambda: "/proc/no/such/folder/kept.pt",
    "a list": lambda: ["kept.pt"],
    "an object": object,
    "another file": lambda: __file__,
    "below a file": lambda: __file__ + "/kept.pt",
    "a zero byte": lambda: "kept\0.pt",
}
PATHS = {
    "a number": lambda: 5,
    "no folder": lambda: "/proc/no/such/folder",
    "a list": lambda: ["data"],
    "an object": object,
    "a zero byte": lambda: "\0",
}
MAKERS = {
    "None": lambda: None,
    "a number": lambda: 5,
    "a word": lambda: "AutoNormal",
    "a made one": guide,
    "of None": lambda: lambda given: None,
    "of words": lambda: lambda given: "guide",
    "without arguments": lambda: lambda: guide(),
    "raising": lambda: Raising().forward,
    "of other latents": lambda: lambda given: guide(3),
    "renamed": lambda: lambda given: Renamed(),
}
UNTIL = {
    "a number": lambda: 5,
    "a word": lambda: "converged",
    "a class": lambda: ppl_vae.Converged,
    "a list": lambda: [ppl_vae.Converged()],
    "a function": lambda: lambda training: "",
    "patience without data": lambda: ppl_vae.Patience(2),
    "a rule": ppl_vae.StoppingRule,
    "its converged": ppl_vae.Converged,
}
SHARES = {
    "0": lambda: 0,
    "1": lambda: 1,
    "1.0": lambda: 1.0,
    "-0.1": lambda: -0.1,
    "2**64": lambda: 2**64,
    "NaN's share": lambda: float("nan"),
    "infinity's": lambda: float("inf"),
    "True": lambda: True,
    "complex's": lambda: 0.1j,
    "less than a row": lambda: 1e-9,
    "a share": lambda: 0.5,
    "an array's": lambda: np.float64(0.5),
}


class Failing:
    """A tracker that fails, in two lines, after it has begun."""

    def start(self, settings, history):
        pass

    def log(self, epoch, values):
        raise KeyError("a key\nand another line")

    finish = log


class Refusing(Failing):
    start = Failing.log


TRACKERS = {
    "a number": lambda: 5,
    "a word": lambda: "csv",
    "a class": lambda: ppl_vae.CSVTracker,
    "a list of words": lambda: ["csv"],
    "an object": object,
    "a module": model,
    "a function": lambda: lambda name: None,
    "without arguments": lambda: lambda: None,
    "refusing": Refusing,
    "below a file": lambda: ppl_vae.CSVTracker(__file__ + "/curve.csv"),
    "another file": lambda: ppl_vae.CSVTracker(__file__),
    "a folder": lambda: ppl_vae.CSVTracker("/"),
    "a zero byte": lambda: ppl_vae.CSVTracker("curve\0.csv"),
    "no folder": lambda: [ppl_vae.CSVTracker("/proc/no/such/curve.csv")],
    "None": lambda: None,
    "none": list,
    "failing": Failing,
}
HELD_OUT = {name: DATA[name] for name in DATA if "loader" not in name}
SWITCHES = {"a word": lambda: "no", "a list": list, "an array": lambda: np.zeros(2), "an object": object}
NO_MODULES = {name: NO_PROGRAMS[name] for name in ("None", "a number", "a word", "a class", "a tensor", "of nothing")}
PLATES = {"a number": lambda: 5, "a word": lambda: "no such plate", "nothing": lambda: "", "a list": lambda: ["data"]}


def _reference(latents):
    pair = model(latents), guide(latents)
    return ppl_vae.reference_gradient(*pair, bits(), draws=10, seed=0, progress=False)


def none_too(values):
    return {"None": lambda: None} | values


KINDS = {
    "model": MODELS,
    "guide": GUIDES,
    "base": {name: GUIDES[name] for name in GUIDES if name != "None"},
    "module": NO_MODULES,
    "data": DATA | SOUND_DATA,
    "test": DATA | SOUND_DATA,
    "held_out": DATA | SOUND_DATA,
    "guides": GUIDES_BY_NAME,
    "make": MAKERS,
    "make_guide": MAKERS,
    "elbo": ELBOS,
    "optimizer": OPTIMIZERS,
    "lr": NUMBERS | {"0": lambda: 0.0},
    "tolerance": NUMBERS,
    "nats": NUMBERS | {"0": lambda: 0},
    "target_accept": none_too(NUMBERS | {"0": lambda: 0, "1": lambda: 1}),
    "transform": FUNCTIONS,
    "schedule": FUNCTIONS,
    "kl_weight": NUMBERS | {name: value for name, value in FUNCTIONS.items() if name != "a number"},
    "free_bits": NUMBERS,
    "clip": NUMBERS | {"0": lambda: 0},
    "until": UNTIL,
    "validation": DATA | SOUND_DATA | SHARES,
    "tracker": TRACKERS,
    "after_epoch": FUNCTIONS,
    "device": DEVICES,
    "seed": SEEDS,
    "capture": WORDS | {"0": lambda: 0, "2": lambda: 2},
    "precision": WORDS,
    "checkpoint": CHECKPOINTS,
    "progress": SWITCHES,
    "jit": SWITCHES,
    "split": SWITCHES,
    "joint": SWITCHES,
    "description": WORDS,
    "curve": CURVES,
    "columns": CURVES | {"None itself": lambda: None},
    "plate": PLATES,
    "evidence": WORDS,
    "annealing": OPTIONS,
    "refinement": OPTIONS,
    "reference": REFERENCES,
    "name": WORDS,
    "root": PATHS,
    "folder": PATHS,
    "steps": NO_COUNTS,
}
COUNTS = (
    "particles",
    "draws",
    "chains",
    "steps",
    "rounds",
    "leapfrog",
    "epochs",
    "batch_size",
    "starts",
    "simulations",
)
COUNTS += ("warmup", "max_tree_depth", "nodes", "points")
MAY_BE_NONE = ("marginal", "patience", "guide_epochs", "learning_steps")
KINDS |= {name: none_too(NO_COUNTS | {"0": lambda: 0}) for name in COUNTS} | {
    name: NO_COUNTS | {"0": lambda: 0} for name in MAY_BE_NONE
}
OF_ONE = {  # parameters that mean something else in one function
    ("annealed", "schedule"): WORDS,
    ("sandwich", "schedule"): WORDS,
    ("annealed", "guide"): {name: value for name, value in GUIDES.items() if name != "None"},
    ("gradient_statistics", "reference"): GRADIENTS,
    ("gradient_statistics", "elbo"): none_too(ELBOS),
    ("best_of", "held_out"): HELD_OUT,
    ("remaining", "epochs"): NO_COUNTS | {"0": lambda: 0},
    ("simulation_based_calibration", "seed"): none_too(SEEDS),
    ("best_of", "seed"): none_too(SEEDS),
}
# What a call with these may return: they are no mistakes, or are not read where the call has no use for them.
MAY_WORK = {
    ("data", name)
    for name in ("other lengths", "something else beside", "None beside", "a shuffling loader", *SOUND_DATA)
} | {
    ("data", "half"),
    ("data", "double"),
    ("model", "other latents"),
    ("model", "double"),
    ("model", "half"),
    ("guide", "lazy"),
    ("guides", "model"),
    ("elbo", "Renyi"),
    ("elbo", "compiled"),
    ("optimizer", "without a rate"),
    ("learning_steps", "0"),
    ("tolerance", "-1"),
    ("tolerance", "infinity"),
    ("columns", "nothing"),
    ("columns", "0"),
    ("columns", "too many"),
    ("after_epoch", "of nothing"),
    ("after_epoch", "of words"),
    ("after_epoch", "of NaN"),
    ("description", "a word"),
    ("description", "nothing"),
    ("held_out", "None"),
    ("validation", "None"),
    ("validation", "a share"),
    ("validation", "an array's"),
    ("validation", "a shuffling loader"),
    ("until", "a rule"),
    ("until", "its converged"),
    ("tracker", "None"),
    ("tracker", "none"),
    ("tracker", "failing"),
    ("root", "no folder"),
    ("root", "a zero byte"),
}
MAY_WORK |= {(name, value) for name in ("test", "held_out", "validation") for kind, value in MAY_WORK if kind == "data"}
LOOKED_AT_FOR_THEIR_SIZE = {("data", name) for name in ("int", "uint8", "bool", "grey")}
SIMULATING = {"sandwich", "simulate", "simulation_based_calibration"}
ERRORS_OF_ONES_OWN = {"raising": KeyError, "without arguments": TypeError}  # of a function of the caller's
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "annealed": (ppl_vae.annealed, {"steps": 2, "chains": 2, "leapfrog": 1}),
    "best_of": (ppl_vae.best_of, {"starts": 1, "epochs": 1}),
    "bounds": (ppl_vae.bounds, {"particles": 10}),
    "check": (ppl_vae.check, {}),
    "compare": (ppl_vae.compare, {"epochs": 1, "particles": 10}),
    "exact_evidence": (evidence.exact_evidence, {}),
    "fit": (ppl_vae.fit, {"epochs": 1, "device": "cpu"}),
    "freeze": (ppl_vae.freeze, {}),
    "generalization": (ppl_vae.generalization, {"particles": 10}),
    "gradient_statistics": (ppl_vae.gradient_statistics, {"draws": 10}),
    "information": (ppl_vae.information, {"particles": 5}),
    "load": (ppl_vae.load, {"name": "digits"}),
    "load_pair": (ppl_vae.load_pair, {"folder": "no such folder"}),
    "log_weights": (ppl_vae.log_weights, {}),
    "nuts": (ppl_vae.nuts, {"draws": 4, "warmup": 1, "chains": 1, "jit": False, "max_tree_depth": 2}),
    "open_run": (ppl_vae.open_run, {"folder": "no such folder"}),
    "posterior": (ppl_vae.posterior, {"draws": 5}),
    "posterior_predictive": (ppl_vae.posterior_predictive, {"draws": 25, "chains": 1}),
    "posterior_quality": (ppl_vae.posterior_quality, {"draws": 25}),
    "quadrature": (evidence.quadrature, {"nodes": 5}),
    "reference_gradient": (ppl_vae.reference_gradient, {"draws": 10}),
    "remaining": (ppl_vae.remaining, {"particles": 4, "points": 5, "epochs": 1, "batch_size": 9}),
    "refine": (ppl_vae.refine, {"steps": 1, "rounds": 1}),
    "sandwich": (ppl_vae.sandwich, {"steps": 2, "chains": 2, "leapfrog": 1}),
    "save_pair": (ppl_vae.save_pair, {"folder": __file__ + "/pair"}),
    "simulate": (evidence.simulate, {}),
    "simulation_based_calibration": (
        ppl_vae.simulation_based_calibration,
        {"simulations": 10, "draws": 4, "epochs": 1},
    ),
    "tightness": (ppl_vae.tightness, {"particles": 30}),
    "to_arviz": (ppl_vae.to_arviz, {"draws": 25, "chains": 1}),
}
SOUND: dict[str, Maker] = {
    "model": model,
    "guide": guide,
    "module": model,
    "data": bits,
    "test": bits,
    "held_out": bits,
    "guides": lambda: {"diagonal": guide()},
    "make_guide": lambda: lambda given: guide(),
    "elbo": Trace_ELBO,
    "reference": lambda: {"z": np.random.default_rng(0).normal(size=(1, 30, ROWS, 2))},
}


def mixture(seed):
    from ppl_vae.models import GaussianMixture

    return GaussianMixture(2, 2).initialize(points(), seed)


def points():
    return torch.randn(20, 2, generator=torch.Generator().manual_seed(0))


OF_FUNCTION: dict[str, dict[str, Maker]] = {
    "best_of": {"make": lambda: mixture, "data": points},
}
PASSED_ON = {"best_of", "simulation_based_calibration", "compare"}  # which take the options of fit


@dataclass(frozen=True)
class Attack:
    """A call with some values that are no arguments of their kind."""

    function: str
    changed: tuple[tuple[str, str], ...]  # parameter and value

    @property
    def label(self) -> str:
        return f"{self.function}({', '.join(f'{name}={value}' for name, value in self.changed)})"

    @property
    def may_work(self) -> bool:
        fine = MAY_WORK | (LOOKED_AT_FOR_THEIR_SIZE if self.function in SIMULATING else set())
        return fine.issuperset(self.changed)

    def of_the_callers(self, error: Exception) -> bool:
        """Whether a function of the caller's has raised an error, which is to be seen as it is."""
        return any(
            name not in ("model", "guide", "base") and isinstance(error, ERRORS_OF_ONES_OWN.get(value, ()))
            for name, value in self.changed
        )

    def __call__(self) -> Any:
        function, options = CALLS[self.function]
        given = dict(options)
        names = inspect.signature(function).parameters
        makers = SOUND | OF_FUNCTION.get(self.function, {})
        for name, parameter in names.items():
            if parameter.default is parameter.empty and name in makers and name not in given:
                given[name] = makers[name]()
        if "progress" in names or self.function in PASSED_ON:
            given["progress"] = False
        for name, value in self.changed:
            given[name] = values_of(self.function, name)[value]()
        positional = [
            given.pop(name)
            for name, parameter in names.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name in given
        ]
        return function(*positional, **given)


def parameters_of(function: str) -> list[str]:
    names = inspect.signature(CALLS[function][0]).parameters
    own = [name for name, parameter in names.items() if parameter.kind is not parameter.VAR_KEYWORD]
    if function in PASSED_ON:
        own += [
            name for name in inspect.signature(ppl_vae.fit).parameters if name not in (*own, "model", "description")
        ]
    return [name for name in own if not (function in PASSED_ON and name in ("guide", "after_epoch"))]


def values_of(function: str, name: str) -> dict[str, Maker]:
    return OF_ONE.get((function, name)) or KINDS[name]


def single() -> Iterator[Attack]:
    """Each value of each parameter by itself."""
    for function in CALLS:
        for name in parameters_of(function):
            for value in values_of(function, name):
                yield Attack(function, ((name, value),))


def several(seed: int) -> Iterator[Attack]:
    """Some parameters at once, by a seed, without end."""
    dice = random.Random(seed)
    while True:
        function = dice.choice(list(CALLS))
        names = parameters_of(function)
        chosen = dice.sample(names, min(len(names), dice.choice((1, 2, 2, 3))))
        yield Attack(function, tuple((name, dice.choice(list(values_of(function, name)))) for name in chosen))
