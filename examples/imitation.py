# %% [markdown]
# # Why does a copied demonstrator drive into the obstacle?
#
# *"An example of a latent conditional model is the mixture density network, which we use in imitation learning to deal
# with multi-modal situations, each requiring a different distribution."*
#
# Demonstrators pass an obstacle on either side, left as often as right. Just before it, the density of what they do
# has two modes:
#
# $$p(a \mid s) = \sum_k \pi_k(s) \, \mathcal{N}(a; \mu_k(s), \sigma_k(s)^2)$$
#
# A policy with one Gaussian can only fit the mean of both, which is straight on. A mixture density policy draws a side
# and then stays on it, because the state tells which side it is on. The likelihood of new demonstrations, to which
# neither policy was fitted, says the same in nats.
#
#     python examples/imitation.py                         # about 20 seconds
#     python examples/imitation.py --demonstrations 3000   # ten times as many demonstrations, about 2 minutes

# %%
import argparse
import sys
from pathlib import Path

import numpy as np
import pyro
import torch
from matplotlib.patches import Circle
from scipy.stats import binomtest
from torch import Tensor

from ppl_vae import LogEvidence, cooldown, fit, no_guide
from ppl_vae.models import MixtureDensityNetwork
from ppl_vae.plots.style import PALETTE, new_figure, show

parser = argparse.ArgumentParser(description="Why does a copied demonstrator drive into the obstacle?")
parser.add_argument("--epochs", type=int, default=40)
parser.add_argument("--demonstrations", type=int, default=300, help="episodes of the demonstrator to learn from")
parser.add_argument("--episodes", type=int, default=1000, help="episodes that each policy drives")
parser.add_argument("--figure", type=Path, default=Path("runs/imitation.png"))
options = parser.parse_args([] if "ipykernel" in sys.modules else None)  # a notebook has no command line

# %% [markdown]
# ## The corridor
#
# The state is a position, the action a sideways step. An episode ends at the obstacle, at a wall or at the goal.

# %%
FORWARD, GOAL, OBSTACLE, RADIUS, TURN = 0.2, 10.0, 5.0, 1.0, 3.5


class Corridor:
    """A point that moves along a corridor with a round obstacle in the middle; gymnasium's ``reset`` and ``step``.

    Observations are (x, y), an action is a step in y, of at most 0.5. An episode ends at the obstacle, at a wall
    (\\|y\\| > 3) or at the goal, x = 10.
    """

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, bool]]:
        """The start: x = 0, y near 0."""
        self._random = np.random.default_rng(seed)
        self._state = np.array([0.0, 0.1 * self._random.standard_normal()])
        return self._state.copy(), {}

    def step(self, action: float) -> tuple[np.ndarray, float, bool, bool, dict[str, bool]]:
        """Observation, reward (1 at the goal), whether the episode ended, truncated, whether it crashed."""
        drift = 0.01 * self._random.standard_normal()
        self._state += (FORWARD, float(np.clip(action, -0.5, 0.5)) + drift)
        x, y = self._state
        crashed = bool(np.hypot(x - OBSTACLE, y) < RADIUS or abs(y) > 3)
        arrived = bool(x >= GOAL - 1e-9 and not crashed)
        return self._state.copy(), float(arrived), crashed or arrived, False, {"crashed": crashed}


# %% [markdown]
# A demonstrator turns shortly before the obstacle, to a side drawn for each episode. A policy drives by drawing its
# actions, or by always taking the mean of its heaviest component ("mode").


# %%
def demonstrate(episodes: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """States, actions and success rate of a demonstrator who turns at x = 3.5 to a side drawn for each episode."""
    random = np.random.default_rng(seed)
    states, actions, successes = [], [], 0
    for episode in range(episodes):
        corridor = Corridor()
        (x, y), _ = corridor.reset(seed=seed + episode)
        side, ended, reward = random.choice((-1, 1)), False, 0.0
        while not ended:
            aim = 1.8 * side if TURN <= x < 2 * OBSTACLE - TURN else 0.0
            action = float(np.clip(0.4 * (aim - y), -0.35, 0.35) + 0.03 * random.standard_normal())
            states.append((x, y))
            actions.append(action)
            (x, y), reward, ended, _, _ = corridor.step(action)
        successes += reward > 0
    return torch.tensor(np.array(states)).float(), torch.tensor(actions).float()[:, None], successes / episodes


def drive(policy: MixtureDensityNetwork, episodes: int, by: str, seed: int) -> tuple[float, list[np.ndarray]]:
    """The success rate and each episode's path; actions are drawn, or the mean of the heaviest component ("mode")."""
    torch.manual_seed(seed)
    corridors = [Corridor() for _ in range(episodes)]
    states = np.array([corridor.reset(seed=seed + number)[0] for number, corridor in enumerate(corridors)])
    paths = [[state.copy()] for state in states]
    running, successes = list(range(episodes)), 0
    while running:
        given = torch.from_numpy(states[running]).float()
        with torch.no_grad():
            actions = policy.predictive(given).sample() if by == "draw" else policy.modes(given)[1][:, 0]
        still = []
        for number, action in zip(running, actions[:, 0].tolist(), strict=True):
            states[number], reward, ended, _, _ = corridors[number].step(action)
            paths[number].append(states[number].copy())
            successes += reward > 0
            if not ended:
                still.append(number)
        running = still
    return successes / episodes, [np.array(path) for path in paths]


def interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share, which has a width at 0% and 100%, too."""
    found = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


states, actions, demonstrated = demonstrate(options.demonstrations, seed=10**6)
new_states, new_actions, _ = demonstrate(options.demonstrations, seed=2 * 10**6)
print(f"demonstrator: {demonstrated:.1%} of {options.demonstrations} episodes reach the goal, {len(states)} steps")

# %% [markdown]
# ## Both policies, fitted to the same demonstrations
#
# `LogEvidence` maximizes log p(action | state) itself: with the component summed out, no guide is needed.

# %%
nats, arrivals, paths = {}, {}, {}
densities = {}
print(f"{'policy':<32}{'log p(a | s), nats':>20}{'arrive':>10}   95% interval")
for name, components in (("one Gaussian", 1), ("mixture of 4", 4)):
    pyro.set_rng_seed(0)
    policy = MixtureDensityNetwork(1, components, 2, hidden=(64, 64), floor=1e-2).standardize(actions, states)
    fit(
        policy,
        no_guide,
        (actions, states),
        elbo=LogEvidence(),
        lr=3e-3,
        epochs=options.epochs,
        batch_size=256,
        schedule=cooldown,
        seed=0,
        progress=False,
        device="cpu",
    )
    with torch.no_grad():
        densities[name] = policy.log_evidence(new_actions, new_states)
        nats[name] = float(densities[name].mean())
    for by in ("mode", "draw"):
        label = f"{name}, {'its mean' if by == 'mode' and components == 1 else by}"
        arrivals[label], paths[label] = drive(policy, options.episodes, by, seed=0)
        low, high = interval(arrivals[label], options.episodes)
        print(f"{label:<32}{nats[name]:>20.3f}{arrivals[label]:>10.1%}   {low:.1%} to {high:.1%}", flush=True)

# %%
figure = new_figure(10, 6.6)
for axes, label in zip(figure.subplots(2, 2, sharex=True, sharey=True).flat, paths, strict=True):
    for path in paths[label][:40]:
        arrived = path[-1, 0] >= GOAL - 1e-9
        axes.plot(*path.T, linewidth=0.8, color=PALETTE[0] if arrived else PALETTE[1], alpha=0.7)
        if not arrived:
            axes.plot(*path[-1], "x", color=PALETTE[1], markersize=5)
    axes.add_patch(Circle((OBSTACLE, 0), RADIUS, color="0.3"))
    axes.set_title(f"{label}: {arrivals[label]:.1%} arrive", fontsize=10)
    axes.set(xlim=(0, GOAL), ylim=(-3.1, 3.1), aspect="equal")
figure.supxlabel("position along the corridor", fontsize=10)
figure.supylabel("position across it", fontsize=10)
figure.suptitle("40 episodes of each policy (blue arrive; orange crash, at the crosses)", fontsize=11)
show(figure, options.figure)


# %%
def share(label: str) -> str:
    """How many episodes arrive, and the interval."""
    low, high = interval(arrivals[label], options.episodes)
    return f"{arrivals[label]:.1%} ({low:.1%} to {high:.1%})"


starts = np.flatnonzero((new_states[:, 0] == 0).numpy())  # of the episodes
differences = np.add.reduceat((densities["mixture of 4"] - densities["one Gaussian"]).numpy().astype(float), starts)
gained, gained_se = float(differences.mean()), float(differences.std(ddof=1) / len(differences) ** 0.5)
crashes = [path[-1] for path in paths["one Gaussian, its mean"] if path[-1, 0] < GOAL - 1e-9]
straight_on = sum(bool(x < OBSTACLE and abs(y) < RADIUS) for x, y in crashes) / max(1, len(crashes))
print(
    f"By their draws the Gaussian policy arrives in {share('one Gaussian, draw')} of {options.episodes} episodes and "
    f"the mixture in {share('mixture of 4, draw')}; by its mean the Gaussian one in "
    f"{share('one Gaussian, its mean')}, by its mode the mixture in {share('mixture of 4, mode')}. "
    + (f"Of the crashes at the mean {straight_on:.0%} are head-on into the obstacle. " if crashes else "")
    + f"The mixture's density of a new demonstrated episode is higher by {gained:.1f} ± {gained_se:.1f} nats."
)
