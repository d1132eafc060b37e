"""Imitation: a demonstrator passes an obstacle on either side; an agent that copies the average drives into it.

The state is a position, the action a sideways step. Before the obstacle the demonstrators turn left as often as right,
so p(action | state) has two modes. A Gaussian policy has one, midway: straight on. A mixture density policy draws a
side and goes on with it, since the state then tells the side.

    python examples/imitation.py
"""

import argparse
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from ppl_vae import LogEvidence, cooldown, fit, no_guide
from ppl_vae.cli.results import save
from ppl_vae.models import MixtureDensityNetwork
from ppl_vae.runs.folder import begun

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


def main(epochs: int = 40, demonstrations: int = 300, episodes: int = 1000) -> None:
    """Trains both policies on the same demonstrations and drives each through 1000 episodes."""
    states, actions, rate = demonstrate(demonstrations, seed=10**6)
    print(f"demonstrator: {rate:.1%} of {demonstrations} episodes reach the goal, {len(states)} steps")
    results = {}
    print(f"{'policy':<34}{'NLL':>8}{'success':>10}   ± standard error, {episodes} episodes")
    for name, components in (("Gaussian", 1), ("mixture density, 4 components", 4)):
        torch.manual_seed(0)
        policy = MixtureDensityNetwork(1, components, 2, hidden=(64, 64), floor=1e-2).standardize(actions, states)
        fit(
            policy,
            no_guide,
            (actions, states),
            elbo=LogEvidence(),
            optimizer=partial(torch.optim.Adam, lr=3e-3),
            epochs=epochs,
            batch_size=256,
            schedule=cooldown,
            seed=0,
            progress=False,
            device="cpu",
        )
        with torch.no_grad():
            nll = -float(policy.log_evidence(actions, states).mean())
        for by in ("mode", "draw"):
            rate, paths = drive(policy, episodes, by, seed=0)
            error = (rate * (1 - rate) / episodes) ** 0.5
            label = f"{name}, {'its mean' if by == 'mode' and components == 1 else by}"
            results[label] = rate, paths
            print(f"{label:<34}{nll:>8.3f}{rate:>10.1%}   ± {error:.1%}", flush=True)
    with begun(None, "imitation", "examples/imitation.py", {}) as running:
        place = running.path
        save(place / "paths.png", draw(results))
        running.finish()
    print(running.path)


def draw(results: dict[str, tuple[float, list[np.ndarray]]]) -> Figure:
    """The first forty paths of each policy; crashes in red."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    for axes, (label, (rate, paths)) in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, results.items(), strict=True
    ):
        for path in paths[:40]:
            axes.plot(*path.T, lw=0.8, color="C0" if path[-1, 0] >= GOAL - 1e-9 else "C3", alpha=0.7)
        axes.add_patch(Circle((OBSTACLE, 0), RADIUS, color="0.3"))
        axes.set(title=f"{label}: {rate:.1%} arrive", xlim=(0, GOAL), ylim=(-3.1, 3.1), aspect="equal")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--demonstrations", type=int, default=300)
    parser.add_argument("--episodes", type=int, default=1000)
    main(**vars(parser.parse_args()))
