"""Reference draws from a model's posterior by the No-U-Turn sampler: what a guide's draws are held against."""

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyro
import torch
import xarray as xr
from pyro.infer.mcmc import MCMC, NUTS
from pyro.infer.mcmc.util import initialize_model
from torch import Tensor
from torch.distributions import biject_to

from ppl_vae.errors import InputError, require_count
from ppl_vae.graphs.tracing import agree, traced
from ppl_vae.measure.draws import FEWEST_DRAWS, mixing, posterior_draws
from ppl_vae.pairs.arguments import Batch, Data, device_batch
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.mistakes import numbers, outside_support, told
from ppl_vae.pairs.modules import Program, modules_of
from ppl_vae.pairs.progress import stage
from ppl_vae.pairs.restore import evaluating, local_parameters, modules_kept, random_state_kept, seeded, store_kept
from ppl_vae.pairs.traces import random_sites, trace

Potential = Callable[[Tensor], tuple[Tensor, Tensor]]
_POINTS = 3  # at which a graph is compared with the program
_AT_ONCE = 256  # draws whose deterministic values are computed together


@runs_a_pair
def nuts(
    model: Program,
    data: Data,
    *,
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    target_accept: float = 0.8,
    max_tree_depth: int = 10,
    jit: bool = True,
    progress: bool = True,
) -> xr.Dataset:
    """Draws from p(z | x) of a whole model by Pyro's No-U-Turn sampler (Hoffman & Gelman 2014), chain after chain.

    All latents of the model are sampled jointly, its parameters held fixed. Discrete latents that Pyro can enumerate
    are summed out and have no draws. The chains are worth something where r-hat is under 1.01, the smallest effective
    sample size over 400 and no transition divergent (Vehtari et al. 2021); the attributes say so.

    Args:
        model: any Pyro program whose continuous latents are always the same.
        data: a tensor, a tuple of tensors or a DataLoader: the arguments of the model.
        draws: in each chain, after the warmup.
        warmup: steps before them, in which step size and (diagonal) mass matrix are adapted.
        chains: from starts of their own, run one after the other in this process.
        seed: of the random numbers; None takes them as they come.
        target_accept: the acceptance probability that the step size is adapted to; nearer to 1 for fewer divergences.
        max_tree_depth: at most 2^max_tree_depth - 1 steps of the integrator for a draw.
        jit: record log p(x, z) and its gradient as a graph once and replay that; eight schools take a third of the
            time. A model that no graph holds, or whose graph gives other numbers at other points, is run as it is.
            False runs every model as it is.
        progress: a progress bar on standard error.

    Returns:
        The draws, as :func:`ppl_vae.measure.draws.posterior_draws` has them, in the model's own (constrained) space:
        each latent, and each ``pyro.deterministic`` value where no latent is enumerated. Attributes: ``divergences``,
        the number of divergent transitions after the warmup; ``max_r_hat`` and ``min_ess_bulk`` over all components
        that vary (NaN where none does); ``seconds``; ``jit``, 1 where the graph was replayed and 0 elsewhere.

    Raises:
        InputError: for discrete latents that can't be enumerated, a support that depends on other latents, a model
            without continuous latents, plates that subsample, a model without a finite density at any start, or counts
            that are too small.

    Examples:
        >>> import pyro
        >>> import torch
        >>> from pyro.distributions import Normal
        >>> from ppl_vae import nuts
        >>> def model(x):
        ...     mean = pyro.sample("mean", Normal(0.0, 1.0))
        ...     with pyro.plate("data", len(x)):
        ...         pyro.sample("x", Normal(mean, 1.0), obs=x)
        >>> nuts(model, torch.randn(20), draws=50, warmup=50, chains=2, seed=0, progress=False).sizes["draw"]
        50
    """
    for name, value, least in (("draws", draws, FEWEST_DRAWS), ("warmup", warmup, 1), ("chains", chains, 1)):
        require_count(name, value, least)
    require_count("max_tree_depth", max_tree_depth, 1)
    if not 0 < target_accept < 1:
        raise InputError(f"target_accept is {target_accept}; a probability between 0 and 1 is needed")
    batch, began = device_batch(data, model), time.perf_counter()
    with ExitStack() as kept:
        for manager in (seeded(seed), store_kept(), modules_kept(modules_of(model)), evaluating(model)):
            kept.enter_context(manager)
        kept.enter_context(local_parameters(model))
        kept.enter_context(pyro.validation_enabled(False))  # a divergent transition may leave the support
        enumerated = _require_suitable(model, batch)
        target = _Target(model, batch, chains)
        potential = _recorded(target) if jit else None
        flat, divergences = [], 0
        with stage("NUTS", chains * (draws + warmup), progress, shorten="draws") as advance:
            for start in target.starts:
                kernel = NUTS(
                    potential_fn=_differentiable(potential or target.slope),
                    target_accept_prob=target_accept,
                    max_tree_depth=max_tree_depth,
                )
                chain = MCMC(
                    kernel,
                    num_samples=draws,
                    warmup_steps=warmup,
                    initial_params={"z": start},
                    hook_fn=lambda *_: advance(1),
                    disable_progbar=True,
                )
                with torch.enable_grad():
                    chain.run()
                flat.append(chain.get_samples()["z"].detach())
                divergences += len(chain.diagnostics()["divergences"]["chain 0"])
        found = target.values(torch.stack(flat), enumerated)
    found.attrs = {"divergences": divergences, **mixing(found), "jit": int(potential is not None)}
    found.attrs["seconds"] = time.perf_counter() - began
    return found


class _Target:
    """Minus log p(x, z) of a model as a function of one vector, z in unconstrained space with its Jacobian."""

    def __init__(self, model: Program, batch: Batch, chains: int) -> None:
        self._model, self._batch = model, batch
        try:
            with torch.enable_grad():
                starts, self._potential, self._transforms, _ = initialize_model(model, batch, num_chains=chains)
            starts = {name: value if chains > 1 else value[None] for name, value in starts.items()}
            self._shapes = {name: value.shape[1:] for name, value in starts.items()}
            self.starts = torch.cat([value.reshape(chains, -1) for value in starts.values()], dim=1)
            with random_state_kept():
                self.slope(self.starts[0])
        except Exception as error:
            raise InputError(told(error)) from error

    def slope(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the potential, a scalar, and its gradient."""
        with torch.enable_grad():
            vector = vector.detach().requires_grad_()
            potential = self._potential(self._apart(vector))
            (gradient,) = torch.autograd.grad(potential, vector)
        return potential.detach().to(vector), gradient  # Pyro takes the potential's type for that of the latents

    def values(self, vectors: Tensor, enumerated: bool) -> xr.Dataset:
        """Returns the latents, and the deterministic values, of vectors of shape (chains, draws, length)."""
        latents = {name: self._transforms[name].inv(part) for name, part in self._apart(vectors).items()}
        fixed = {} if enumerated else self._deterministic({name: part.flatten(0, 1) for name, part in latents.items()})
        return posterior_draws(latents | {name: part.unflatten(0, vectors.shape[:2]) for name, part in fixed.items()})

    def _deterministic(self, latents: dict[str, Tensor]) -> dict[str, Tensor]:
        """Runs the model on each draw of the latents, all at once where its operations allow that."""

        def fixed(given: dict[str, Tensor]) -> dict[str, Tensor]:
            nodes = trace(self._model, self._batch, given=given).nodes.items()
            return {name: site["value"] for name, site in nodes if site.get("infer", {}).get("_deterministic", False)}

        count = len(next(iter(latents.values())))
        one_by_one = [{name: part[index] for name, part in latents.items()} for index in range(count)]
        if not fixed(one_by_one[0]):
            return {}
        try:
            return torch.vmap(fixed, chunk_size=_AT_ONCE)(latents)
        except Exception:  # it branches on values, say
            found = [fixed(given) for given in one_by_one]
            return {name: torch.stack([part[name] for part in found]) for name in found[0]}

    def _apart(self, vectors: Tensor) -> dict[str, Tensor]:
        parts = vectors.split([shape.numel() for shape in self._shapes.values()], dim=-1)
        lead = vectors.shape[:-1]
        return {
            name: part.reshape(lead + shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }


def _require_suitable(model: Program, batch: Batch) -> bool:
    """Refuses latents that NUTS can't sample; says whether some are summed out."""
    for line in numbers(batch):
        raise InputError(line)
    try:
        runs = [random_sites(trace(model, batch)) for _ in range(2)]
    except Exception as error:
        raise InputError(told(error)) from error
    sites, again = ({site["name"]: site["fn"] for site in run if not site["is_observed"]} for run in runs)
    if list(sites) != list(again):
        raise InputError(f"the latents differ from run to run ({', '.join(sites)} and {', '.join(again)})")
    discrete = [name for name, density in sites.items() if density.support.is_discrete]
    for name, density in sites.items():
        if name in discrete and not density.has_enumerate_support:
            raise InputError(
                f"the latent {name!r} is discrete and can't be enumerated ({type(density).__name__}): NUTS needs a "
                "gradient for every latent that can't be summed out"
            )
        if name not in discrete and not torch.equal(_middle(density), _middle(again[name])):
            raise InputError(
                f"the support of {name!r} depends on other latents, and NUTS needs the same at every draw: sample it "
                "on a fixed interval and scale it"
            )
    if len(discrete) == len(sites):
        raise InputError("the model has no continuous latent; NUTS samples nothing else")
    observed = [site for site in runs[0] if site["is_observed"]]
    if not observed:
        raise InputError("the model observes nothing, so there is no posterior: give the data to a site by obs=")
    for line in (line for site in observed for line in outside_support(site)):
        raise InputError(line)
    return bool(discrete)


def _middle(density: Any) -> Tensor:
    """Returns the point of a support that 0 is mapped to, which moves with the support."""
    transform = biject_to(density.support)
    return transform(torch.zeros_like(transform.inv(density.sample())))


def _recorded(target: _Target) -> Potential | None:
    """Returns the potential and its gradient as a graph, or None where a graph doesn't give the program's numbers."""
    try:
        graph = traced(lambda vector: target.slope(vector), (target.starts[0],), ())  # it counts a method's self
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch.jit, which asks for torch.compile
            replay = torch.jit.trace(graph.forward, (target.starts[0],), check_trace=False)
            for point in (*target.starts, *torch.randn(_POINTS, target.starts.shape[1]).to(target.starts)):
                if not agree(target.slope(point), replay(point)):
                    return None
    except Exception:  # a branch on values, a size that depends on them, ...
        return None
    return replay


def _differentiable(slope: Potential) -> Callable[[dict[str, Tensor]], Tensor]:
    """Makes a potential with its gradient what Pyro's kernels differentiate."""

    class Known(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, vector: Tensor) -> Tensor:
            potential, gradient = slope(vector)
            context.save_for_backward(gradient)
            return potential

        @staticmethod
        def backward(context: Any, outer: Tensor) -> Tensor:
            (gradient,) = context.saved_tensors
            return gradient * outer

    return lambda values: Known.apply(values["z"])
