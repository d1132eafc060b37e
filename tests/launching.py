"""A script that is run by one process and by two, under torchrun."""

import json
import subprocess
import sys


def in_one_process_and_two(folder, script):
    """Runs it both ways; returns what each prints last, which is JSON."""
    place = folder / "train.py"
    place.write_text(script)
    found = []
    for launcher in ([], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]):
        done = subprocess.run(
            [sys.executable, *launcher, str(place)],
            **{"cwd": folder, "capture_output": True, "text": True, "timeout": 300, "check": False},
        )
        assert done.stdout.strip(), done.stderr[-2000:]
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return found
