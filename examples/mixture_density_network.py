"""The inverse sinusoid: a question with several answers, which least squares averages and a mixture density keeps.

y = 7 sin(0.75 x) + 0.5 x + noise is a function of x; turned round, one y belongs to up to five x. A network trained by
least squares gives their mean, where there are none. A mixture density network (Bishop 1994) gives a density with as
many modes as there are answers: same data, same hidden layer of 20 tanh units, five components.

    python examples/mixture_density_network.py
"""

import argparse
import math
from functools import partial

import torch
from matplotlib.figure import Figure
from pyro.infer import TraceEnum_ELBO
from torch import nn
from torchvision.ops import MLP

from ppl_vae import LogEvidence, cooldown, fit, no_guide
from ppl_vae.cli import results
from ppl_vae.models import MixtureDensityNetwork
from ppl_vae.plots.mixtures import conditional_density
from ppl_vae.runs.folder import begun

ROWS = 1000


def inverse_sinusoid(rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What is asked for, x in [-10.5, 10.5], and what is given, 7 sin(0.75 x) + 0.5 x + N(0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = 21 * torch.rand(rows, 1, generator=generator) - 10.5
    return x, 7 * (0.75 * x).sin() + 0.5 * x + torch.randn(rows, 1, generator=generator)


def truth(x: torch.Tensor, given: torch.Tensor) -> float:
    """The NLL of the conditional density that the data come from: Bayes' rule on a grid of x, which is uniform."""
    grid = torch.linspace(-10.5, 10.5, 2001)
    noise = torch.distributions.Normal(0.0, 1.0)
    joint, own = (noise.log_prob(given - 7 * (0.75 * part).sin() - 0.5 * part) for part in (grid, x))
    return float(joint.logsumexp(1).mean() + math.log(21 / 2000) - own.mean())


def main(epochs: int = 8000, starts: int = 5) -> None:
    """Trains both networks, prints their NLL in nats a point, and draws them."""
    x, given = inverse_sinusoid(ROWS, 0)
    held, held_given = inverse_sinusoid(10 * ROWS, 1)
    torch.manual_seed(0)
    plain = MLP(1, [20, 1], activation_layer=nn.Tanh)
    unit, shift = given.std(), given.mean()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    for _ in range(epochs):
        optimizer.zero_grad()
        (plain((given - shift) / unit) - x).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        variance = (plain((given - shift) / unit) - x).square().mean()
    least_squares = 0.5 * math.log(2 * math.pi * math.e * float(variance))
    print(f"least squares, one Gaussian of its residuals: train NLL {least_squares:.4f}")

    best, lowest = None, math.inf
    options = {"epochs": epochs, "batch_size": ROWS, "progress": False, "schedule": cooldown, "device": "cpu"}
    for seed in range(starts):
        torch.manual_seed(seed)
        model = MixtureDensityNetwork(1, 5, 1, hidden=(20,), activation=nn.Tanh).standardize(x, given)
        fit(
            model,
            no_guide,
            (x, given),
            elbo=LogEvidence(),
            optimizer=partial(torch.optim.Adam, lr=0.02),
            seed=seed,
            **options,
        )
        with torch.no_grad():
            train, test = -model.log_evidence(x, given).mean(), -model.log_evidence(held, held_given)
        error = float(test.std()) / math.sqrt(len(test))
        print(f"start {seed}: train NLL {train:.4f}, test NLL {test.mean():.4f} ± {error:.4f}", flush=True)
        if train < lowest:
            best, lowest = model, float(train)
    assert best is not None
    print(f"the true density: train NLL {truth(x, given):.4f}, test NLL {truth(held, held_given):.4f}")
    summed = TraceEnum_ELBO(max_plate_nesting=1).loss(best, no_guide, x, given) / ROWS
    print(
        f"mixture density, the best start: train NLL {lowest:.4f} (Pyro's TraceEnum_ELBO: {summed:.4f}; Otoro 1.2196)"
    )

    ask = torch.zeros(1, 1)
    with torch.no_grad():
        weights, means, scales = best.modes(ask)
        low, high = best.interval(ask, 0.9)
        inside = torch.cat([torch.stack(best.interval(part, 0.9)) for part in held_given.split(2000)], 1)
        share = ((held > inside[0]) & (held < inside[1])).float().mean()
        average = float(plain((ask - shift) / unit))
        of_five = best.posterior(torch.tensor([[0.0]]), ask).probs[0]
    print(f"at y = 0 least squares says {average:.2f}; the mixture:")
    for weight, mean, scale in zip(weights[0], means[0, :, 0], scales[0, :, 0], strict=True):
        print(f"  {weight:.2f} at {mean:6.2f} ± {scale:.2f}")
    print(f"  90% interval {float(low):.2f} to {float(high):.2f} (on new points it holds {share:.1%})")
    print(f"  x = 0 came from component {int(of_five.argmax())} with probability {float(of_five.max()):.3f}")

    figure = Figure(figsize=(11, 4), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    span = (-14.0, 14.0)
    line = torch.linspace(*span, 400)[:, None]
    for axes, title in zip(
        panels, ("least squares", "p(x | y), shades of its root", "drawn from p(x | y)"), strict=True
    ):
        axes.set(title=title, xlabel="y, given", xlim=span, ylim=(-13, 13))
    panels[0].set_ylabel("x, asked for")
    with torch.no_grad():
        panels[0].plot(given, x, ".", ms=2, color="0.6")
        panels[0].plot(line, plain((line - shift) / unit), color="C3")
        conditional_density(best.log_evidence, span, (-13.0, 13.0), panels[1])
        panels[1].plot(given, x, ".", ms=1, color="0.4", alpha=0.5)
        panels[2].plot(given, best.predictive(given).sample(), ".", ms=2, color="C0")
    with begun(None, "mixture-density-network", "examples/mixture_density_network.py", {}) as running:
        place = running.path
        results.save(place / "inverse-sinusoid.png", figure)
        running.finish()
    print(running.path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8000)
    parser.add_argument("--starts", type=int, default=5)
    main(**vars(parser.parse_args()))
