"""Who is told of each epoch of a training: a file, TensorBoard, or a tracker of one's own."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from ppl_vae.errors import InputError, shown
from ppl_vae.training.history import CURVES, History
from ppl_vae.training.writing import locked, replaced

_HEADER = (",".join(("epoch", *CURVES)) + "\n").encode()


class Tracker(Protocol):
    """Is told of a training by :func:`ppl_vae.fit`: at its start, after each epoch, and at its end.

    ``start`` gets the settings by name: ``training`` (the description), ``model``, ``guide``, ``estimator``,
    ``optimizer``, ``learning_rate``, ``parameters``, ``data_points``, ``batch_size``, ``epochs`` and ``seed``. ``log``
    gets the figures of an epoch: ``elbo`` and, with held-out data, ``validation`` in nats per data point, and
    ``seconds``. ``finish`` gets the history, with ``ended``, ``remaining`` and ``generalization_gap``; it is called
    after a failure too, and ``ended`` is empty then.

    A tracker that fails at its start ends the training before its first step. One that fails later is left out from
    there on, with a warning: no epoch and no checkpoint is lost. Of several processes the first one alone has trackers.
    Trackers for MLflow and for Weights & Biases take ten lines each: see ``docs/trackers.md``.

    Examples:
        >>> import torch
        >>> from ppl_vae import fit
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> class Printing:
        ...     def start(self, settings, history):
        ...         print(settings["model"], settings["epochs"])
        ...     def log(self, epoch, values):
        ...         print(epoch, *values)
        ...     def finish(self, history):
        ...         print(history.ended)
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> history = fit(*pair, x, epochs=2, tracker=Printing(), seed=0, progress=False)
        VAE 2
        1 elbo seconds
        2 elbo seconds
        all 2 epochs are done
    """

    def start(self, settings: Mapping[str, Any], history: History) -> None:
        """Is called before the first epoch, with the settings; ``history`` has the epochs that a checkpoint gave."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Is called after each epoch, counted from 1, with its figures by name."""

    def finish(self, history: History) -> None:
        """Is called at the end, also of a training that fails."""


class _OfOneTraining:
    """Refuses to be told of another training, whose figures would take the place of those of the first."""

    _training: Any = None

    def _begin(self, training: Any) -> None:
        name = type(self).__name__
        if self._training not in (None, training):
            raise InputError(
                f"the {name} has the figures of {self._training!r}, which those of {training!r} would replace: give a "
                f"function of the training's name, such as tracker=lambda name: {name}(f'curves/{{name}}')"
            )
        self._training = training


class CSVTracker(_OfOneTraining):
    """Writes the figures of each epoch to a CSV file, a line an epoch, as soon as they are there.

    The columns are ``epoch``, ``elbo``, ``validation`` (empty without held-out data) and ``seconds``. Where a training
    goes on from its checkpoint, the file becomes that of one without a break. A curve that is there already is
    replaced; another file is refused.

    Args:
        path: the file's.

    Raises:
        InputError: for what is no path. When the training begins: for a file that can't be written, is in use, or
            holds something else.

    Examples:
        >>> import os, tempfile, torch
        >>> from ppl_vae import CSVTracker, fit
        >>> from ppl_vae.guides import Amortized, Diagonal
        >>> from ppl_vae.models import VAE
        >>> x = torch.bernoulli(torch.full((20, 64), 0.3))
        >>> pair = VAE(64, 2), Amortized(Diagonal(2), 64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "curve.csv")
        ...     history = fit(*pair, x, epochs=2, tracker=CSVTracker(path), seed=0, progress=False)
        ...     with open(path) as file:
        ...         print([line.split(",")[0] for line in file])
        ['epoch', '1', '2']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = _path(path)
        self._rows, self._kept = 0, ExitStack()

    def start(self, settings: Mapping[str, Any], history: History) -> None:
        """Writes the epochs that are done."""
        self._begin(settings["training"])
        with ExitStack() as opening:
            opening.enter_context(locked(self._path, "name another file"))
            self._refuse_other_content()
            self._write(history)
            self._file = opening.enter_context(self._path.open("ab", buffering=0))
            self._kept = opening.pop_all()

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds a line in one piece, so that a training that is killed leaves whole ones."""
        line = _line(epoch, values)
        if self._file.write(line) != len(line):
            raise OSError("the disk is full")
        self._rows += 1

    def finish(self, history: History) -> None:
        """Closes the file, and writes what a failure has left out."""
        with self._kept:
            if self._rows < len(history.elbo):
                self._write(history)

    def _write(self, history: History) -> None:
        self._rows = len(history.elbo)
        with replaced(self._path) as new:
            new.write_bytes(_HEADER + b"".join(_line(n + 1, history.of_epoch(n)) for n in range(self._rows)))

    def _refuse_other_content(self) -> None:
        if self._path.is_dir():
            raise InputError(f"{self._path} is a folder: name a file")
        if self._path.is_file() and self._path.stat().st_size:
            with self._path.open("rb") as file:
                if file.read(len(_HEADER)) != _HEADER:
                    raise InputError(f"{self._path} is there already, and is no training's curve: name another file")


class TensorBoardTracker(_OfOneTraining):
    """Shows the curves of a training in TensorBoard while it goes on: ``tensorboard --logdir FOLDER``.

    The settings and how the training ended are texts. Where a training goes on from its checkpoint, the epochs that
    are done again replace those of before. It needs the package ``tensorboard``.

    Args:
        folder: of this training; trainings in folders side by side are shown together.

    Raises:
        InputError: for what is no path, or without TensorBoard.

    Examples:
        >>> import importlib.util
        >>> from ppl_vae import InputError, TensorBoardTracker
        >>> try:
        ...     tracker = TensorBoardTracker("runs/diagonal")
        ... except InputError as error:
        ...     assert importlib.util.find_spec("tensorboard") is None, error
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = _path(folder)
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "TensorBoardTracker needs TensorBoard, which is not installed: pip install tensorboard"
            ) from None
        self._make: Callable[..., Any] = SummaryWriter

    def start(self, settings: Mapping[str, Any], history: History) -> None:
        """Begins a file of events, and takes back the epochs that are not done."""
        self._begin(settings["training"])
        self._writer = self._make(str(self._folder), purge_step=len(history.elbo) + 1)
        rows = "".join(f"| {name} | {value} |\n" for name, value in settings.items())
        self._writer.add_text("settings", f"| | |\n|---|---|\n{rows}", 0)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Adds a point to each curve, and flushes it to the file."""
        writer: Any = self._writer
        for name, value in values.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    def finish(self, history: History) -> None:
        """Says how the training ended."""
        writer: Any = self._writer
        if history.ended:
            done = len(history.elbo)
            writer.add_text("ended", history.ended, done)
            ends = {"remaining": history.remaining, "generalization_gap": history.generalization_gap}
            for name, value in ends.items():
                if value == value:
                    writer.add_scalar(name, value, done)
        writer.close()


def _path(given: Any) -> Path:
    if not isinstance(given, str | os.PathLike) or not str(given):
        raise InputError(f"the tracker's place is {shown(given)}; expected a path, such as 'runs/curve'")
    return Path(given)


def _line(epoch: int, values: Mapping[str, float]) -> bytes:
    return (",".join((str(epoch), *(repr(values[name]) if name in values else "" for name in CURVES))) + "\n").encode()
