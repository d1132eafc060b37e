"""Kills trainings by SIGKILL at random moments, has them go on, and says whether they end as those without a break.

    python tests/training/killing.py KILLS SEED NAME ...

prints a line of JSON for each set-up of ``survivors.py`` that is named, or for all of them. Each training runs in a
process of its own, forked from this one, which has imported everything and computes nothing itself.
"""

import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
import torch._dynamo  # which a first step would take seconds to import

if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"

from survivors import SELDOM, SET_UPS, trained

from ppl_vae.training import checkpoints, distributed


def started(name, result, place, seldom, rank=0, port=None):
    """Forks a process that trains, and writes what comes out, or an error, to a file."""
    child = os.fork()
    if child:
        return child
    try:
        torch.set_num_threads(1)
        if not seldom:
            checkpoints.TIMES = 0.0
        sys.stderr = open(f"{result}.told.{rank}", "a")  # noqa: SIM115
        if port:
            addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
            os.environ |= addresses | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        with distributed.joined():
            numbers = trained(name, place)
        if rank == 0:
            torch.save(numbers, f"{result}.partial")
            os.replace(f"{result}.partial", result)
    except BaseException:
        Path(f"{result}.error.{rank}").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def run(name, result, place=None, kill_after=None, seldom=False):
    """Trains to the end, or until it is killed; says which."""
    port = None
    if name.startswith("two processes"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    children = [started(name, result, place, seldom, rank, port) for rank in range(2 if port else 1)]
    deadline = time.monotonic() + (kill_after if kill_after is not None else 300)
    left = list(children)
    while left and time.monotonic() < deadline:
        left = [child for child in left if os.waitpid(child, os.WNOHANG)[0] == 0]
        time.sleep(0.002)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if left:  # what one of two processes said as the other was killed is no end of the training
        for path in result.parent.glob("*.error.*"):
            path.unlink()
    return not left


def outcome(name, kills, chance, folder):
    """Kills a training so many times, over several runs from beginning to end, and compares each end."""
    whole, done, ends = folder / "whole", 0, []
    began = time.monotonic()
    run(name, whole)
    seconds = time.monotonic() - began
    if not whole.exists():
        return {"name": name, "kills": 0, "ends": ["error: " + last_line(folder)]}
    *expected, training = torch.load(whole)
    while done < kills:
        place, result = folder / f"kept {len(ends)}.pt", folder / f"result {len(ends)}"
        seldom, in_this_run = chance.random() < 0.5, 0
        most = min(kills - done, chance.randint(1, 3))
        while in_this_run < most and not run(name, result, place, seconds - chance.uniform(0, training), seldom):
            in_this_run += 1
        if not result.exists() and not any(folder.glob("*.error.*")):
            run(name, result, place, None, seldom)
        done += in_this_run
        ends.append(difference(expected, torch.load(result)[:2]) if result.exists() else "error: " + last_line(folder))
        if ends[-1].startswith("error"):
            break
    told = sorted(
        {line for path in folder.glob("*.told.*") for line in path.read_text().splitlines() if "Warn" in line}
    )
    return {
        "name": name,
        "kills": done,
        "ends": ends,
        "seconds": (round(seconds, 2), round(training, 2)),
        "told": told[:4],
    }


def last_line(folder):
    return next(path.read_text().strip().splitlines()[-1] for path in folder.glob("*.error.*"))


def difference(expected, found):
    """Says what of two ends differs, bit for bit."""
    curves, tensors = zip(expected, found, strict=True)
    pairs = list(zip(*tensors, strict=True))
    if not all(one.shape == other.shape and torch.equal(one, other) for one, other in pairs):
        apart = (float((one.double() - other.double()).abs().max()) for one, other in pairs if one.numel())
        return f"parameters differ by {max(apart):.2g}"
    if curves[0].shape != curves[1].shape or not torch.equal(*curves):
        return "history differs"
    return "clean"


def main(kills, seed, names):
    for name in names or [*SET_UPS, *SELDOM]:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(outcome(name, kills, random.Random(f"{seed} {name}"), Path(folder))), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
