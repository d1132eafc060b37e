"""Trains a model and its guide by stochastic variational inference, with any Pyro ELBO and any torch optimizer."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ppl_vae.errors import InputError, shown
from ppl_vae.estimators.weighed import weighed
from ppl_vae.pairs.arguments import Data
from ppl_vae.pairs.entrance import runs_a_pair
from ppl_vae.pairs.modules import Program
from ppl_vae.pairs.progress import bar
from ppl_vae.training import distributed
from ppl_vae.training.arguments import require_arguments, resolve_device, set_seed
from ppl_vae.training.batches import Batches, batches
from ppl_vae.training.beside import Beside
from ppl_vae.training.capture import Capture, Step, is_worthwhile
from ppl_vae.training.checkpoints import Checkpoint, Part, in_use_by_this_run, remembered
from ppl_vae.training.denormals import denormals_flushed
from ppl_vae.training.evaluation import Evaluation
from ppl_vae.training.gradients import Gradients
from ppl_vae.training.held_out import HeldOut, held_out_batches, require_can_hold_out, split
from ppl_vae.training.history import History
from ppl_vae.training.identity import code_identity, run_identity
from ppl_vae.training.judge import Judge
from ppl_vae.training.looking import tell
from ppl_vae.training.loop import Loop
from ppl_vae.training.objective import Objective
from ppl_vae.training.optimizers import OptimizerFactory, Schedule, optimizer_or_adam
from ppl_vae.training.passes import Passes
from ppl_vae.training.precision import Precision
from ppl_vae.training.preparation import Prepared, prepared
from ppl_vae.training.stopping import StoppingRule, Training, is_ours, require_rule
from ppl_vae.training.telling import Told, trackers_of
from ppl_vae.training.trackers import Tracker
from ppl_vae.training.updates import Updates, updates_for


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
    kl_weight: float | Schedule = 1.0,
    free_bits: float = 0.0,
    clip: float | None = None,
    device: str | torch.device = "auto",
    seed: int | None = None,
    capture: Capture = "auto",
    precision: Precision = "float32",
    checkpoint: str | Path | None = None,
    validation: Data | float | None = None,
    until: StoppingRule | None = None,
    after_epoch: Callable[[int], bool] | None = None,
    tracker: Tracker | Callable[[str], Tracker] | Sequence[Any] | None = None,
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
        kl_weight: the weight of the divergence of q(z | x) from p(z) in what is trained, beta (Higgins et al. 2017): a
            number, or a function as ``schedule`` is, ``warm_up()`` or ``cyclical()`` say. ``History.elbo`` stays the
            bound itself, without the weight. Estimators of several draws' bound (``IWAE``) are refused.
        free_bits: how many bits (1 bit is log 2 nats) each dimension of a latent may carry, on average over the data,
            before it costs anything (Kingma et al. 2016): each site, where its dimensions can't be told apart (a full
            covariance, a flow). What it carries is averaged over the latest steps.
        clip: the largest norm of a step's gradient, all parameters together: of the mean ELBO of a data point, so it
            needs no change with the batch size. What an estimator learns beside the pair is let be.
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
        validation: data that the training does not see, as ``data``; or a share of the data between 0 and 1, which is
            drawn at random and held out. Their bound is measured after each epoch, with the same noise each time.
        until: stops the training before its last epoch: :class:`ppl_vae.Converged` where little is left to gain,
            :class:`ppl_vae.Patience` where the held-out bound rises no more, or a :class:`ppl_vae.StoppingRule` of
            one's own.
        after_epoch: called with the number of epochs done; the training stops where it returns True. What it remembers
            is kept in the checkpoint where it has ``state_dict`` and ``load_state_dict``.
        tracker: told of the settings, each epoch's figures and the end: :class:`ppl_vae.CSVTracker`,
            :class:`ppl_vae.TensorBoardTracker`, a :class:`ppl_vae.Tracker` of one's own, or several of them; or a
            function that makes one of the description, where one call trains several pairs, as ``compare`` does.
        progress: a progress bar on standard error.
        description: the bar's label.

    Warns:
        TrainingWarning: where the training has ended and looks sick (posterior collapse, a likelihood's scale that runs
            away, a learning rate far off), or where its first step shows that no gradient reaches the guide: one
            sentence each, with what to do. For this the trained pair runs a few times more, which changes no number.

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
    elbo = elbo if elbo is not None else Trace_ELBO()
    target, trackers = resolve_device(device), trackers_of(tracker, description)
    objective = Objective(kl_weight, free_bits, clip, target)
    require_rule(until, validation, schedule, objective.weights)
    with in_use_by_this_run(checkpoint) as start, denormals_flushed(target):
        set_seed(seed)
        data, others = split(data, validation, seed)
        source = batches(data, batch_size, target, transform)
        held_out = held_out_batches(others, batch_size, target, transform)
        with prepared(model, guide, elbo, source, precision, target, objective.weights) as ready:
            pair, steps = ready.trainable, epochs * source.steps
            if held_out is not None:
                require_can_hold_out(pair, guide, elbo)
            history = History(source.size, pair.is_bound, pair.weighted)
            updates = _updates(optimizer, ready, schedule, steps, target, capture, until, objective)
            trained, words = weighed(elbo, objective.weights), objective.identity
            gradients = Gradients(trained, model, pair.guide, pair.parameters, ready.modules, precision != "float32")
            ours = after_epoch is None and all(map(is_ours, (until, *trackers)))
            undisturbed = source.runs_no_foreign_code and updates.runs_no_foreign_code and ours
            step = Step(gradients, capture, steps, updates, undisturbed)
            tensors = [*ready.tensors, *step.state]
            evaluation = Evaluation(elbo, model, pair, ready.modules)
            judge = partial(Judge, evaluation, pair.parameters, source)
            training = Training(model, guide, elbo, history, pair.parameters, tensors, epochs, updates.set_rate, judge)
            if until is not None:
                until.begin(training)
            parts: dict[str, Part] = {"history": history, "updates": updates, "graphs": step}
            saved = Checkpoint(
                checkpoint,
                tensors,
                parts | remembered(until=until, after_epoch=after_epoch),
                partial(Beside, (model, guide, elbo, schedule, objective.schedule, *source.code), tensors),
                partial(run_identity, source, held_out, ready, updates.options, seed, precision),
                partial(
                    code_identity, source, elbo, updates.optimizers, transform, schedule, words, ready, model, guide
                ),
                epochs,
            )
            if saved.is_there:
                gradients.settle(next(source.epoch()))
            saved.load(start, source.inexact)
            distributed.same_everywhere(tensors)
            after_step = None if until is None else until.after_step
            passes = Passes(source, (model, guide), pair, step, updates, tensors, target, after_step)
            bounds = None if held_out is None else HeldOut(evaluation, held_out, source)
            told = Told(trackers, history)
            loop = Loop(training, passes, step, saved, bounds, until, after_epoch, told)
            with told.of(_settings(description, training, source, updates, seed)):
                with _bar(description, training, source, progress) as advance:
                    loop.run(advance)
                ends = {"open_end": until is None and after_epoch is None, "plain": objective.weights is None}
                tell(training, passes, pair, updates.optimizers, description, **ends)
    return history


def _updates(
    optimizer: OptimizerFactory | PyroOptim,
    ready: Prepared,
    schedule: Schedule | None,
    steps: int,
    target: torch.device,
    capture: Capture,
    until: StoppingRule | None,
    objective: Objective,
) -> Updates:
    """Makes what takes the optimizers' steps, in a graph where one may hold them."""
    in_graph = target.type == "cuda" and capture is not False and distributed.count() == 1
    recorded = target.type == "cpu" and is_worthwhile(capture, steps)
    lowered = until is not None and until.lowers_rate
    parameters = ready.trainable.parameters
    return updates_for(
        *(optimizer, parameters, ready.modules, schedule, steps, in_graph, recorded, lowered),
        *(objective.clipping(ready), objective.kl_weight),
    )


def _bar(
    description: str, training: Training, source: Batches, progress: bool
) -> AbstractContextManager[Callable[[int, float, int], None]]:
    """Makes the progress bar, from where a checkpoint has brought the training."""
    history, epochs = training.history, training.epochs
    done = len(history.elbo)
    label = f"{description} ({history.note})" if history.note else description
    shown = progress and distributed.rank() == 0 and done < epochs
    return bar(label, epochs * source.steps, done * source.steps, shown, history.aside)


def _settings(
    description: str, training: Training, source: Batches, updates: Updates, seed: int | None
) -> dict[str, Any]:
    """Says in a few words what a tracker is to be told of."""
    optimizer = updates.optimizers[0]
    parts = {"model": training.model, "guide": training.guide, "estimator": training.elbo, "optimizer": optimizer}
    return {
        "training": description,
        **{name: getattr(part, "__name__", type(part).__name__) for name, part in parts.items()},
        "learning_rate": optimizer.defaults.get("lr"),
        "parameters": sum(leaf.numel() for leaf in training.parameters),
        "data_points": source.size,
        "batch_size": source.batch_size,
        "epochs": training.epochs,
        "seed": seed,
    }


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
