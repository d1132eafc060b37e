"""A training step of several processes, played by one: each takes its turn, and losses and gradients are summed."""

from unittest import mock

import pyro
import torch

from ppl_vae.pairs.modules import modules_of
from ppl_vae.pairs.restore import local_parameters
from ppl_vae.training.capture import Step
from ppl_vae.training.gradients import Gradients
from ppl_vae.training.preparation import first_run


def taken(make, elbo, processes, capture=False, steps=1):
    """Loss and gradients of the last of some steps, summed over the processes, and each one's random numbers after it.

    ``make`` gives model, guide and batch; ``elbo`` makes the estimator.
    """
    sums, states = None, []
    for number in range(processes):
        model, guide, batch = make()
        objective = elbo()
        with (
            mock.patch("ppl_vae.training.distributed.rank", return_value=number),
            mock.patch("ppl_vae.training.distributed.count", return_value=processes),
            mock.patch("ppl_vae.training.capture.count", return_value=processes),
            mock.patch("ppl_vae.training.capture.summed", lambda loss, *_: loss),
            local_parameters(model, guide),
        ):
            modules = modules_of(model, guide)
            learned = objective.learned(model, guide, *batch) if hasattr(objective, "learned") else None
            found = first_run(objective, model, guide, learned, batch)
            step = Step(Gradients(objective, model, found.guide, found.parameters, modules), capture, 1000)
            for turn in range(steps):
                pyro.set_rng_seed(turn)
                loss = step(batch, rare=False)
        gradients = [leaf.grad for leaf in found.parameters]
        mine = [torch.as_tensor(loss, dtype=torch.float64), *(None if g is None else g.to_dense() for g in gradients)]
        sums = mine if sums is None else [None if a is None else a + b for a, b in zip(sums, mine, strict=True)]
        states.append(torch.get_rng_state())
    return sums, states
