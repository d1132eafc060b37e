"""Trains a model and its guide by stochastic variational inference, with any Pyro ELBO and any torch optimizer."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from pyro.infer import ELBO, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ppl_vae.errors import InputError, shown
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.progress import bar
from ppl_vae.training import distributed
from ppl_vae.training.arguments import require_arguments, resolve_device, set_seed
from ppl_vae.training.batches import batches
from ppl_vae.training.beside import Beside
from ppl_vae.training.capture import Capture, Step, is_worthwhile
from ppl_vae.training.checkpoints import Checkpoint, Part, in_use_by_this_run, remembered
from ppl_vae.training.denormals import denormals_flushed
from ppl_vae.training.gradients import Gradients
from ppl_vae.training.history import History
from ppl_vae.training.identity import code_identity, run_identity
from ppl_vae.training.optimizers import OptimizerFactory, Schedule, optimizer_or_adam
from ppl_vae.training.passes import Advance, Passes
from ppl_vae.training.precision import Precision
from ppl_vae.training.preparation import prepared
from ppl_vae.training.updates import updates_for


@runs_a_pair
def fit(
    model: Program,
    guide: Program,
    data: Data,
    *,
    elbo: ELBO | None = None,
    optimizer: OptimizerFactory | PyroOptim | None = None,
    lr: float | None = None,
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
        optimizer: makes an optimizer from the parameters, ``partial(SGD, lr=0.1)`` say; an optimizer of ``pyro.optim``
            with one set of options for all parameters works too. Adam where None.
        lr: Adam's learning rate, 1e-3 where None; another optimizer is given its own.
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
        checkpoint: a file that holds the whole training. Where it is there already, the training goes on from it and
            gives what one without a break gives, to the last digit in one thread on a CPU. It is written after the
            first epoch, at the end, and in between whenever the training has gone on for 20 times what the last
            writing took: so writing takes at most a twentieth of the time, and a training that is cut off loses the
            epochs since the last writing. The file of another run is refused: other data (or another order of them),
            programs, estimator, optimizer, transform, schedule, seed or batch size. More ``epochs`` than it was
            written for are welcome; a schedule is from then on that of the longer training, with a warning.
        after_epoch: called with the number of epochs done; the training stops where it returns True. What it remembers
            is kept in the checkpoint where it has ``state_dict`` and ``load_state_dict``.
        progress: a progress bar on standard error.
        description: the bar's label.

    Raises:
        InputError: for empty or unequal data, NaN, nothing to train, a network of ``pyro.module`` that no gradient
            reaches (the parameter store holds another one), an ELBO whose gradient would be silently wrong
            (``RenyiELBO`` on draws without a gradient, an ``nn_baseline`` that is not registered), or an ELBO or
            parameters that are no longer finite. The parameters are then those before the failed step on a CPU; on a
            GPU, or where those were not finite any more, those at the beginning of the failed epoch, or up to 64 epochs
            before where each is one step.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((50, 64), 0.3))
        >>> model, guide = VAE(64, 2, hidden=(32,)), Amortized(Diagonal(2), 64, hidden=(32,))
        >>> history = fit(model, guide, x, epochs=3, seed=0, progress=False)
        >>> len(history.elbo), history.size
        (3, 50)
    """
    optimizer = optimizer_or_adam(optimizer, lr)
    require_arguments(elbo, optimizer, capture, epochs=epochs, batch_size=batch_size)
    target = resolve_device(device)
    with in_use_by_this_run(checkpoint) as start, denormals_flushed(target):
        set_seed(seed)
        source = batches(data, batch_size, target, transform)
        elbo = elbo if elbo is not None else Trace_ELBO()
        steps = epochs * source.steps
        with prepared(model, guide, elbo, source, precision, target) as ready:
            pair, modules = ready.trainable, ready.modules
            history = History(source.size, pair.is_bound, pair.weighted)
            may_be_one_graph = target.type == "cuda" and capture is not False and distributed.count() == 1
            recorded = target.type == "cpu" and is_worthwhile(capture, steps)
            updates = updates_for(optimizer, pair.parameters, modules, schedule, steps, may_be_one_graph, recorded)
            gradients = Gradients(elbo, model, pair.guide, pair.parameters, modules, coarse=precision != "float32")
            undisturbed = source.runs_no_foreign_code and updates.runs_no_foreign_code and after_epoch is None
            step = Step(gradients, capture, steps, updates, undisturbed)
            tensors = [*ready.tensors, *step.state]
            parts: dict[str, Part] = {"history": history, "updates": updates, "graphs": step}
            saved = Checkpoint(
                checkpoint,
                tensors,
                parts | remembered(after_epoch),
                partial(Beside, (model, guide, elbo, schedule, *source.code), tensors),
                partial(run_identity, source, ready, updates.options, seed, precision),
                partial(code_identity, source, elbo, updates.optimizers, transform, schedule, ready, model, guide),
                epochs,
            )
            if saved.is_there:
                gradients.settle(next(source.epoch()))
            saved.load(start, source.inexact)
            distributed.same_everywhere(tensors)
            passes = Passes(source, (model, guide), pair, step, updates, tensors, target)
            done = len(history.elbo)
            label = f"{description} ({history.note})" if history.note else description
            shown = progress and distributed.rank() == 0 and done < epochs
            with bar(label, steps, done * source.steps, shown) as advance:
                _train(passes, step, history, saved, epochs, after_epoch, advance)
    return history


def _train(
    passes: Passes,
    step: Step,
    history: History,
    saved: Checkpoint,
    epochs: int,
    after_epoch: Callable[[int], bool] | None,
    advance: Advance,
) -> None:
    """Goes through the epochs that are left."""
    done = len(history.elbo)
    stopped = saved.was_stopped and after_epoch is not None and after_epoch(done)
    while done < epochs and not stopped:
        began = time.perf_counter()
        together = passes.together if after_epoch is None else 1
        totals = passes.run(range(done, min(done + together, epochs)), history.latest, advance)
        history.record(totals, time.perf_counter() - began, step.compile_seconds)
        done = len(history.elbo)
        if done == epochs:
            step.finish()  # before anything is changed for what comes after the training
        stopped = after_epoch is not None and after_epoch(done)
        if stopped:
            step.finish()
        saved.save(done == epochs or stopped, stopped)


def freeze(module: nn.Module) -> nn.Module:
    """Takes the parameters out of any further training, and dropout and the like out of use; returns the module.

    Examples:
        >>> from ppl_vae import freeze
        >>> from ppl_vae.models import VAE
        >>> model = freeze(VAE(64, 2))
        >>> any(parameter.requires_grad for parameter in model.parameters())
        False
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"the module is {shown(module)}; expected a made nn.Module")
    if unset := [name for name, leaf in module.named_parameters() if is_lazy(leaf)]:
        raise InputError(f"{unset[0]} has no shape yet, as its layer is lazy: run the module once before it is frozen")
    return module.requires_grad_(False).eval()
