"""Calls of the command line that a person mistypes, a program gets wrong or an attacker tries; how each of them ends.

The same seed gives the same calls. Each one is bad in at least one way, so it ends in one line and status 2, and
leaves nothing behind.
"""

import io
import os
import random
import sys
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np

from ppl_vae.cli import app

Call = tuple[str, ...]
QUICK = ("--epochs", "1", "--hidden", "4", "--quiet")
TRAIN = ("train", "--latents", "2", "--particles", "5", "--images", "5", *QUICK)
COMPARE = ("compare", "--guides", "diagonal", *TRAIN[1:])
GRADIENTS = ("gradients", "--latents", "2", "--draws", "10", "--reference-draws", "0", "--no-race", *QUICK)
MIXTURE = ("train", "--data", "iris", "--model", "gaussian-mixture", "--starts", "1", "--epochs", "1", "--quiet")
NETWORK = (*MIXTURE[:3], "--model", "mixture-density-network", "--target", "petal width", *MIXTURE[5:])
SCHOOLS = ("compare", "--model", "eight-schools", "--epochs", "1", "--particles", "5", "--guides", "auto-normal")

WORDS = ("\n", "a\nb", "\x1b[31mred", "\udcff", "a\u2028b", "x" * 300, "x" * 5000, "../" * 3000 + "x", "")
NO_COUNTS = ("-1", "0", "1.5", "nan", "", "9" * 5000, "0x10", "two", "\n", "\udcff")
NO_RATES = ("nan", "inf", "-inf", "-1", "0", "1e400", "", "fast", "\n", "\udcff")
NO_SHARES = ("0", "1", "1.5", "-0.1", "nan", "inf", "1e-9", "", "half", "\n", "\udcff")
TOO_MANY = ("1" + "0" * 12, str(2**62), str(2**63), str(2**64), "1" + "0" * 30)
NO_SEEDS = ("-1", str(2**64), str(2**70), "1.5", "", "x")
NO_LISTS = (",", ",,", "0", "-1", "1,x", "2.5", "1;2", "9" * 5000, "1\n2", "\udcff")
NO_FILES = ("folder", "missing.npy", "missing.csv", "", ".", "..", "one.npy", "none.npy", "empty.npy", "nan.npy",
    "text.npy", "pipe.npy", "loop.npy", "folder.npy", "/dev/zero", "/dev/null", "empty.csv", "short.csv", "a\nb.npy",
    "\udcff.npy", "x" * 300 + ".npy", "runs/vae", "objects.npy", "flat.npy", "big.npy")  # fmt: skip
NO_DEVICES = ("foo", "cuda:99", "meta", "", "cuda:-1", "cuda:x", "mps", "\n", "\udcff", "xla", "x" * 400)
NO_PLACES = ("file", "file/deeper", "full", "x" * 300, "pipe.npy", "loop.npy", "/dev/null", "/proc/none")


def prepare(folder: Path) -> None:
    """Puts files into a folder that calls name: no data, and places that can't be written."""
    (folder / "folder").mkdir()
    (folder / "folder.npy").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "kept.txt").write_text("kept")
    (folder / "file").write_text("a file")
    for name, content in (("text.npy", "rubbish"), ("empty.npy", ""), ("empty.csv", ""), ("short.csv", "a,b\n1,2\n")):
        (folder / name).write_text(content)
    generator = np.random.default_rng(0)
    np.save(folder / "one.npy", np.zeros((1, 4, 4), np.uint8))
    np.save(folder / "none.npy", np.zeros((0, 4, 4), np.uint8))
    np.save(folder / "flat.npy", np.zeros((40, 4, 0), np.uint8))
    np.save(folder / "nan.npy", np.full((40, 4, 4), np.nan))
    np.save(folder / "big.npy", 1e30 * generator.random((40, 4, 4)))
    np.save(folder / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    os.mkfifo(folder / "pipe.npy")
    (folder / "loop.npy").symlink_to("loop.npy")


def all_calls(folders: list[str]) -> Iterator[Call]:
    """Every call of the list; ``folders`` are no whole runs, or not those that a command takes."""
    for base in (TRAIN, COMPARE, GRADIENTS, MIXTURE):
        for seed in NO_SEEDS:
            yield *base, "--seed", seed
        for device in NO_DEVICES:
            yield *base, "--device", device
        for place in NO_PLACES:
            yield *base, "--run", place
        for word in WORDS:
            yield *base, "--model", word
            yield *base, "--data", word
        for file in NO_FILES:
            yield *base, "--data", file
        for rate in NO_RATES:
            yield *base, "--lr", rate
        for count in NO_COUNTS:
            yield *base, "--epochs", count
            yield *base, "--batch-size", count
        for folder in folders:
            yield base[0], "--resume", folder
            yield *base, "--resume", folder
    for base in (TRAIN, COMPARE, MIXTURE, SCHOOLS, NETWORK):
        for nats in NO_RATES:
            yield *base, "--until", nats
        for count in NO_COUNTS:
            yield *base, "--patience", count
            yield *base, "--validation", "0.5", "--patience", count
        for share in NO_SHARES:
            yield *base, "--validation", share
        for word in WORDS[:-1]:
            yield *base, "--tracker", word
        yield *base, "--validation", "0.5", "--until", "0.1", "--patience", "2"
    yield from ((*base, "--patience", "2") for base in (TRAIN, COMPARE, MIXTURE, SCHOOLS))
    yield from ((*base, "--validation", "0.2") for base in (MIXTURE, SCHOOLS))
    yield *NETWORK, "--until", "0.1"
    for base in (TRAIN, COMPARE):
        for option in ("--latents", "--particles", "--images"):
            for count in NO_COUNTS:
                yield *base, option, count
        for count in TOO_MANY:
            yield *base, "--latents", count
        for word in WORDS[:-1]:
            yield *base, "--likelihood", word
    for base in (TRAIN, COMPARE, GRADIENTS):
        for widths in (*NO_LISTS[2:], *TOO_MANY, "4," * 5000 + "x"):
            yield *base, "--hidden", widths
    for word in WORDS[:-1]:
        for option in ("--guide", "--estimator", "--precision", "--capture", "--covariance"):
            yield *TRAIN, option, word
        yield *COMPARE, "--base", word
        yield *COMPARE, "--evidence", word
        yield *COMPARE, "--guides", word
        yield *SCHOOLS, "--guides", word
        yield *GRADIENTS, "--estimators", word
        yield *GRADIENTS, "--guide", word
        yield *MIXTURE, "--target", word
        yield *MIXTURE, "--covariance", word
        yield "list", word
        yield (word,)
        yield "train", f"--{word}"
        yield "new", word
        yield "new", "my_own", "--folder", f"file/{word}"
    for names in (",", ", ,", "diagonal,diagonal", "diagonal,iaf,iaf", ",".join(["none"] * 200), "flow,iaf,flow"):
        yield *COMPARE, "--guides", names
        yield *SCHOOLS, "--guides", names
    for names in (",", "pathwise,pathwise", "none", "pathwise,none", "rloo,disarm", "pathwise;rloo"):
        yield *GRADIENTS, "--estimators", names
    for counts in NO_LISTS:
        yield *GRADIENTS, "--latents", counts
        yield *GRADIENTS, "--particles", counts
    for count in NO_COUNTS[:2] + TOO_MANY:
        yield *GRADIENTS, "--latents", count
        yield *MIXTURE, "--components", count
        yield *MIXTURE, "--starts", count if count in NO_COUNTS else "x"
    for decay in (*NO_RATES[:4], "1"):
        yield *MIXTURE, "--weight-decay", decay
    for target in ("none", "0", "a,b"):
        yield *MIXTURE, "--target", target
        yield *MIXTURE[:3], "--model", "mixture-density-network", "--target", target
    for name in ("_1", "__main__", "torch", "json", "class", "match?", "None", "test_x", "My", "é" * 200, "x" * 252,
        "ppl_vae", "a.b", ".", "/", "__init__", "__future__", "ﬁle", "async", "x" * 250):  # fmt: skip
        yield "new", name
    yield "new", "my_own", "--folder", "file"
    yield "new", "my_own", "--folder", "loop.npy/x"
    for folder in folders:
        yield "evaluate", folder, "--particles", "5", "--images", "5", "--quiet"
        yield "sample", folder, "--count", "3", "--to", "drawn"
        yield "reproduce", folder, "--quiet"
        yield "report", folder, "--to", "report.html"
        yield "compare", "--from", folder, "--particles", "5", "--quiet"
    for folder in NO_FILES[:-4] + NO_FILES[-3:]:
        for command in ("evaluate", "sample", "report", "reproduce"):
            yield command, folder
    for place in NO_PLACES[:2] + NO_PLACES[3:]:
        yield "sample", "runs/vae", "--count", "3", "--to", place
    for count in (*NO_COUNTS, *TOO_MANY):
        yield "sample", "runs/vae", "--to", "drawn", "--count", count
        yield "sample", "runs/iris", "--to", "drawn", "--count", count
    for run in ("runs/vae", "runs/iris", "runs/schools"):
        yield "sample", run, "--to", "drawn", "--guide", "none"
        yield "sample", run, "--to", "drawn", "--seed", str(2**64)
        yield "evaluate", run, "--device", "foo", "--quiet"
        yield "evaluate", run, "--evidence", "none", "--quiet"
    yield "compare", "--from", "runs/vae", "--from", "runs/vae", "--quiet"
    yield "compare", "--from", "runs/vae", "--from", "runs/../runs/vae", "--quiet"
    yield "compare", "--from", "runs/vae", "--from", "runs/iris", "--quiet"
    yield "compare", "--from", "runs/vae", "--from", "runs/schools", "--quiet"
    yield "compare", "--from", "runs/vae", "--latents", "3"
    yield "reproduce", "runs/iris", "--run", "full", "--quiet"


def calls(count: int, seed: int, folders: list[str]) -> list[Call]:
    """Some of the calls, drawn at random."""
    every = list(dict.fromkeys(all_calls(folders)))
    return random.Random(seed).sample(every, min(count, len(every)))


def ending(call: Call) -> tuple[str, str]:
    """Runs ``ppl-vae`` in the folder at hand; says how it ended and what it printed on standard error."""
    before, out, err = _content(), io.StringIO(), io.StringIO()
    arguments, sys.argv = sys.argv, ["ppl-vae", *call]
    status: object = None
    try:
        with redirect_stdout(out), redirect_stderr(err):
            app.main()
    except SystemExit as end:
        status = end.code
    except Exception as error:
        return "traceback", "".join(traceback.format_exception(error)[-4:])
    finally:
        sys.argv = arguments
    lines = err.getvalue()
    if status != 2:
        return f"status {status}", lines
    if not lines.strip():
        return "silent", lines
    if not (lines.endswith("\n") and lines[:-1].isprintable()):
        return "several lines", lines
    return ("clean", lines) if _content() == before else ("left behind", f"{lines} {set(_content()) ^ set(before)}")


def _content() -> dict[str, tuple[int, int]]:
    """The files of the folder at hand, with their sizes and times."""
    found = {}
    for root, folders, files in os.walk("."):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(root, name))
            is_folder = name in folders
            found[os.path.join(root, name)] = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
    return found
