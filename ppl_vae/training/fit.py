"""Fitting a pair by stochastic variational inference, with any ``pyro.infer.ELBO`` and any torch optimizer."""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro.infer import ELBO, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader

from ppl_vae.errors import InputError
from ppl_vae.estimators import LogWeightELBO
from ppl_vae.pairs.checks import explained
from ppl_vae.pairs.modules import Program, modules_of, own_modules
from ppl_vae.pairs.progress import bar
from ppl_vae.pairs.restore import local_parameters, random_state_kept, restored_unless_finite, undone_on_error
from ppl_vae.training import distributed
from ppl_vae.training.batches import batches
from ppl_vae.training.capture import Capture, Step
from ppl_vae.training.checkpoints import Checkpoint
from ppl_vae.training.cuda_graphs import make_capturable
from ppl_vae.training.identity import described, optimizer_identity, programs_identity, settings_of, tensors_identity
from ppl_vae.training.optimizers import OptimizerFactory, Schedule, make_optimizers, make_schedulers
from ppl_vae.training.precision import Precision, computing_in
from ppl_vae.training.preparation import COMPILED, first_run, parameters_for, training

_ADAM = partial(Adam, lr=1e-3, fused=True)


@dataclass
class History:
    """How a training went, one entry for each epoch.

    Attributes:
        elbo: mean training ELBO, nats per data point (the estimate that the steps themselves used; with
            ``ReweightedWakeSleep`` the wake phase's, and -inf with ``TraceTailAdaptive_ELBO``, which gives none). Where
            ``weighted``, the objective with its weights, which is not the ELBO: :func:`ppl_vae.bounds` gives that.
        seconds: wall-clock time.
        size: data points in the last epoch.
        is_bound: False where the guide has a point mass, or sites have weights, so that the "ELBO" bounds nothing.
        weighted: True where ``poutine.scale`` weights sites, as a KL weight (beta) does; the scale of a plate that
            subsamples the data is none.
        compile_seconds: what of it a compiler took.
    """

    size: int
    is_bound: bool = True
    weighted: bool = False
    elbo: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0

    @property
    def latest(self) -> float:
        """The last epoch's ELBO, NaN before."""
        return self.elbo[-1] if self.elbo else math.nan

    @property
    def note(self) -> str:
        """What to say beside the curve, empty for one of bounds."""
        return "" if self.is_bound else "weighted objective, not a bound" if self.weighted else "not a bound"

    @property
    def points_per_second(self) -> float:
        """Data points that the median epoch went through in a second."""
        return self.size / sorted(self.seconds)[len(self.seconds) // 2]


def fit(
    model: Program,
    guide: Program,
    data: Tensor | tuple[Tensor, ...] | DataLoader,
    *,
    elbo: ELBO | None = None,
    optimizer: OptimizerFactory | PyroOptim = _ADAM,
    epochs: int = 20,
    batch_size: int = 128,
    transform: Callable[[Tensor], Tensor] | None = None,
    schedule: Schedule | None = None,
    device: str | torch.device = "auto",
    seed: int | None = None,
    capture: Capture = "auto",
    precision: Precision = "float32",
    checkpoint: str | Path | None = None,
    after_epoch: Callable[[int], bool] | None = None,
    progress: bool = True,
    description: str = "fit",
) -> History:
    """Maximizes the ELBO of model and guide over minibatches of the data; both are changed in place.

    Each module keeps its own parameters (the global store is not used), and frozen ones stay frozen; a module with no
    trainable parameter stays in eval mode. Modules are left in eval mode, on the device that was used.

    Under ``torchrun`` (see :mod:`ppl_vae.training.distributed`) each process takes its rows of every batch, with the
    noise and the gradients of the whole one.

    Args:
        model: any Pyro program.
        guide: its guide, called with the same arguments.
        data: the arguments of both: one tensor or several of equal length, one row a data point, which are moved to
            the device once; or a ``DataLoader`` of them, for data that do not fit there (memory-mapped or streamed,
            with workers), which sets its own batch size and order.
        elbo: the objective and gradient estimator; ``Trace_ELBO()`` where None. What an estimator of
            :mod:`ppl_vae.estimators` learns itself (a neural baseline, RELAX's control) is trained with the pair.
        optimizer: makes an optimizer from the parameters, ``partial(Adam, lr=1e-3, fused=True)`` say; an optimizer of
            ``pyro.optim`` with one set of options for all parameters works too.
        epochs: passes over the data.
        batch_size: data points in a step; the last step of an epoch takes what is left.
        transform: applied to the first tensor of each minibatch on the device: ``torch.bernoulli`` binarizes grey
            images anew at each draw.
        schedule: the factor on the learning rate as a function of the share of the training that is done (0 to 1).
        device: "auto" (a GPU where there is one), "cpu", "cuda", ...
        seed: passed to ``pyro.set_rng_seed`` first; None leaves the random numbers as they are.
        capture: "auto" traces the pair to a graph and replays it, without Pyro's handlers, where there are enough
            steps, and compiles it where that is earned back; True traces any shape of batch at its first step, and
            "compile" compiles too; False runs the programs. A pair that can't be captured is found out, warned of once
            (``CaptureWarning``) and runs as with False.
        precision: "bf16" computes the networks in bfloat16, "tf32" multiplies matrices in TF32 on a GPU; parameters and
            log-densities stay float32 (see :mod:`ppl_vae.training.precision`).
        checkpoint: a file that holds the whole training after each epoch; where it is there already, the training
            goes on from it and gives what one without a break gives. The file of another run is refused: other data (or
            another order of them), programs, estimator, optimizer, transform, schedule, seed or batch size.
        after_epoch: called with the number of epochs done; the training stops where it returns True.
        progress: a progress bar on standard error.
        description: the bar's label.

    Raises:
        InputError: for empty or unequal data, NaN, nothing to train, a network of ``pyro.module`` that no gradient
            reaches (the parameter store holds another one), an ELBO whose gradient would be silently wrong
            (``RenyiELBO`` on draws without a gradient, an ``nn_baseline`` that is not registered), or an ELBO or
            parameters that are no longer finite. The parameters are then those before the failed step on a CPU; on a
            GPU, or where those were not finite any more, those at the beginning of the failed epoch.
    """
    _refuse_other_kinds(model, guide, elbo, optimizer, capture, epochs=epochs, batch_size=batch_size)
    target = resolve_device(device)
    if seed is not None:
        pyro.set_rng_seed(seed)
    elif distributed.count() > 1:
        raise InputError(f"{distributed.count()} processes need the same random numbers: give fit a seed")
    source = batches(data, batch_size, target, transform)
    size, batch_size = source.size, source.batch_size
    modules = modules_of(model, guide)
    objective = elbo if elbo is not None else Trace_ELBO()
    learned = None
    if isinstance(objective, LogWeightELBO):
        with local_parameters(model, guide), random_state_kept():
            for module in modules:
                module.to(target)
            learned = objective.learned(model, guide, *(part[:2] for part in next(source.epoch())))
        modules += [learned] if learned is not None else []
    for module in modules:
        module.to(target)

    steps = source.steps
    if isinstance(objective, COMPILED) and not source.even:
        raise InputError(
            f"{type(objective).__name__} replays its first batch, but the last batch is shorter: take a batch_size "
            f"that divides {size}, not {batch_size}, or Trace_ELBO"
        )
    coarse = computing_in(precision, modules, target)
    with ExitStack() as stack, coarse, parameters_for(objective, model, guide), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Encountered NaN", module="pyro")  # the error below says more
        batch = next(source.epoch())
        with undone_on_error(modules), explained(model, guide, batch):
            exactly = not isinstance(data, DataLoader)
            found = first_run(objective, model, guide, learned, batch, size if steps > 1 else None, exactly)
        parameters = found.parameters
        stack.enter_context(training(modules, own_modules(model, guide), parameters))
        is_bound = found.is_bound and getattr(objective, "is_bound", True) and not found.weighted
        history = History(size, is_bound, found.weighted)
        steppers = make_optimizers(optimizer, parameters, modules)
        options = optimizer_identity(steppers)  # before a schedule changes the rate
        alone = target.type == "cuda" and capture is not False and distributed.count() == 1
        inside = alone and make_capturable(steppers)  # the optimizers' step is a part of the graph
        schedulers = make_schedulers(schedule, steppers, epochs * steps)
        step = Step(
            objective,
            model,
            found.guide,
            parameters,
            modules,
            capture,
            epochs * steps,
            steppers if inside else (),
            coarse=precision != "float32",
        )
        tensors = [*parameters, *(buffer for module in modules for buffer in module.buffers()), *step.state]
        kept = None
        if checkpoint is not None:
            run = {
                "data": source.fingerprint(),
                "transform": described(transform),
                "batch size": str(batch_size),
                "seed": str(seed),
                "estimator": settings_of(objective, ("max_plate_nesting",)),
                "optimizer": options,
                "schedule of the rate": described(schedule) + ("" if schedule is None else f" over {epochs} epochs"),
                "precision": precision,
                **tensors_identity(found.names, parameters),
            }
            programs = partial(programs_identity, model, guide, learned)
            kept = Checkpoint(Path(checkpoint), tensors, [*steppers, *schedulers], run, programs)
            told = kept.load(epochs)
            history.elbo, history.seconds = (told["elbo"], told["seconds"]) if told else ([], [])
            if inside:
                make_capturable(steppers)
        if distributed.count() > 1:
            distributed.same_everywhere(tensors)
        spare = [tensor.detach().clone() for tensor in tensors]
        waits = target.type == "cpu"  # on a GPU the loss stays there to the end of the epoch

        def check(loss: float, epoch: int, index: int) -> None:
            if not math.isfinite(loss) and not (math.isinf(loss) and _finite_gradients(parameters)):
                raise InputError(
                    f"the ELBO became {-loss} in epoch {epoch + 1}, step {index + 1}: lower the learning rate, or look "
                    "for a scale near 0 in the model or the guide"
                )

        label = f"{description} ({history.note})" if history.note else description
        done = len(history.elbo)
        shown = progress and distributed.rank() == 0 and done < epochs
        with bar(label, epochs * steps, done * steps, shown) as advance:
            for epoch in range(done, epochs):
                start = time.perf_counter()
                total: Any = 0.0
                rows = points = 0  # a loader's sampler may leave some out, and its dataset may hold whole batches
                with restored_unless_finite(parameters, tensors, spare):
                    for index, batch in enumerate(source.epoch()):
                        with explained(model, guide, batch) if (epoch, index) == (done, 0) else nullcontext():
                            loss: Any = step(batch, rare=len(batch[0]) < min(batch_size, size))
                        if (epoch, index) == (done, 0):
                            found.require_gradients()
                        if waits:
                            loss = float(loss)
                            check(loss, epoch, index)
                        for stepper in () if step.updated else steppers:
                            stepper.step()
                        for scheduler in schedulers:
                            scheduler.step()
                        total, rows = total + loss, rows + len(batch[0])
                        points += found.full_size or len(batch[0])
                        advance(epoch + 1, -loss / len(batch[0]) if waits else history.latest, len(batch[0]))
                    check(float(total), epoch, index)
                    found.require_finite(epoch + 1)
                history.size = rows
                history.elbo.append(-float(total) / points)
                history.seconds.append(time.perf_counter() - start)
                history.compile_seconds = step.compile_seconds
                if kept is not None and distributed.rank() == 0:
                    kept.save({"elbo": history.elbo, "seconds": history.seconds})
                if epoch + 1 == epochs:
                    step.finish()  # before anything is changed for what comes after the training
                if after_epoch is not None and after_epoch(epoch + 1):
                    step.finish()
                    break
    return history


def _refuse_other_kinds(model: Any, guide: Any, elbo: Any, optimizer: Any, capture: Any, **counts: Any) -> None:
    """InputError where an argument is not what it should be, which would show late and in other words."""
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is {value!r}; a whole number from 1 on is needed")
    for name, program in (("model", model), ("guide", guide)):
        if isinstance(program, type) or not callable(program):
            raise InputError(f"the {name} is {program!r}; expected a Pyro program: a made module, or a function")
    if elbo is not None and not isinstance(elbo, ELBO):
        raise InputError(f"elbo is {elbo!r}; expected a pyro.infer.ELBO that is made, such as Trace_ELBO()")
    if isinstance(optimizer, Optimizer) or not (callable(optimizer) or isinstance(optimizer, PyroOptim)):
        raise InputError(
            f"optimizer is {type(optimizer).__name__!r}; expected a function that makes one from the parameters, such "
            "as partial(torch.optim.Adam, lr=1e-3)"
        )
    if capture not in ("auto", "compile", True, False):
        raise InputError(f"capture is {capture!r}; expected 'auto', True, False or 'compile'")


def freeze(module: nn.Module) -> nn.Module:
    """Takes the parameters out of any further training, and dropout and the like out of use; returns the module."""
    return module.requires_grad_(False).eval()


def resolve_device(device: str | torch.device) -> torch.device:
    """The device that a name means; "auto" is the first GPU where there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {str(device)!r} can't be used here ({reason}): take 'auto' or 'cpu'") from None
    return resolved


def _finite_gradients(parameters: list[Tensor]) -> bool:
    """Told apart by these: ``TraceTailAdaptive_ELBO`` gives inf for a loss, whatever happens."""
    return all(leaf.grad is None or bool(leaf.grad.isfinite().all()) for leaf in parameters)
