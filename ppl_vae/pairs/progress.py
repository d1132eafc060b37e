"""Progress on standard error: one display for a whole command, one line for each of its stages.

Lines are drawn in a terminal or a notebook only. A stage that has more than a minute to go says so once, wherever
standard error goes. Nothing here waits for the device.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

_REFRESH = 0.1  # seconds: a step may take less than an update
_TELLING = 2.0  # seconds after which the pace of a stage can be judged
_LONG = 60.0  # seconds: what takes longer is announced
_LARGE_SHARE = 0.1  # of a stage: the pace can be judged by its first step alone
_SETTING_UP = 8  # steps that are no measure, unless they take a minute: in a training they validate, trace and compile


@contextmanager
def stage(description: str, total: int, show: bool, *, shorten: str = "") -> Iterator[Callable[[int], None]]:
    """Shows how far a stage of known length is; yields a function to call with the number of steps just finished.

    Args:
        description: the stage's name.
        total: how many steps it has.
        show: False shows nothing at all.
        shorten: the option that makes the stage shorter, such as "particles"; named where the stage takes minutes.
    """
    if not show:
        yield lambda steps: None
        return
    with _line(description, total, 0, shorten) as line:
        yield line.advance


@contextmanager
def bar(
    description: str, steps: int, start: int, show: bool, aside: Callable[[], str] = str
) -> Iterator[Callable[[int, float, int], None]]:
    """Shows how far a training is; yields a function to call after each step.

    ``aside`` gives what else is to be shown. The function that is yielded takes the step's epoch, counted from 1, its
    ELBO in nats per row, and its number of rows.
    """
    if not show:
        yield lambda epoch, elbo, points: None
        return
    with _line(description, steps, start, "epochs") as line:
        began, points_done, smooth = time.perf_counter(), 0, math.nan

        def advance(epoch: int, elbo: float, points: int) -> None:
            nonlocal points_done, smooth
            points_done += points
            smooth = elbo if math.isnan(smooth) else 0.98 * smooth + 0.02 * elbo
            line.note = lambda: (
                f"epoch {epoch}  ELBO {smooth:.2f} nats{aside()}  "
                f"{points_done / (time.perf_counter() - began):.0f} points/s"
            )
            line.advance(1)

        yield advance


@contextmanager
def whole(title: str) -> Iterator[None]:
    """Gathers all stages and bars inside into one display, which is drawn from the first of them on."""
    if _current.get() is not None:  # part of a larger whole
        yield
        return
    display = _Display(title)
    token = _current.set(display)
    try:
        yield
    except BaseException:
        display.close(failed=True)
        raise
    else:
        display.close()
    finally:
        _current.reset(token)


class _ToGo(TimeRemainingColumn):
    """A column with the time to go; once a stage is done, with the time that it took."""

    def __init__(self) -> None:
        super().__init__(compact=True, elapsed_when_finished=True)

    def render(self, task: Task) -> Text:
        if task.total is None:  # the whole command, whose length nobody knows
            return Text("")
        shown = super().render(task)
        return shown if task.finished else shown.append(" to go")


class _Elapsed(ProgressColumn):
    """A column with the time since the whole command began."""

    def render(self, task: Task) -> Text:
        minutes, seconds = divmod(int(task.elapsed or 0), 60)
        return Text(f"{minutes:02d}:{seconds:02d} so far" if task.total is None else "", style="progress.elapsed")


class _Display:
    """The lines of all stages, with at most as many finished ones as the terminal has room for."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._console = _console()
        self._drawn = self._console.is_interactive or self._console.is_jupyter
        self._progress: Progress | None = None
        self._title_line: TaskID | None = None

    def add(self, description: str, total: int, completed: int) -> TaskID | None:
        """Adds a line; returns None where nothing is drawn."""
        if not self._drawn:
            return None
        if self._progress is None:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
            self._progress = Progress(*columns, _ToGo(), _Elapsed(), console=self._console)
            if self._title:
                self._title_line = self._progress.add_task(self._title, total=None, note="")
            self._progress.start()
        return self._progress.add_task(description, total=total, completed=completed, note="")

    def update(self, line: TaskID | None, completed: int, note: str) -> None:
        if self._progress is not None and line is not None:
            self._progress.update(line, completed=completed, note=note)

    def finish(self, line: TaskID | None, completed: int) -> None:
        """Fills a line's bar, be the stage cut short or not, and hides the oldest line where there are too many."""
        if self._progress is None or line is None:
            return
        self._progress.update(line, total=max(completed, 1), completed=max(completed, 1))
        shown = [task for task in self._progress.tasks if task.visible and task.finished]
        for task in shown[: max(0, len(shown) - max(3, self._console.height - 5))]:
            self._progress.update(task.id, visible=False)

    def remove(self, line: TaskID | None) -> None:
        if self._progress is not None and line is not None:
            self._progress.remove_task(line)

    def say(self, sentence: str) -> None:
        """Prints a sentence above the lines."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def close(self, failed: bool = False) -> None:
        """Leaves the lines of the finished stages, and after a failure no title that looks like success."""
        if self._progress is None:
            return
        if self._title_line is not None:
            if failed:
                self.remove(self._title_line)
            else:
                self.finish(self._title_line, 1)
        self._progress.live.transient = not any(task.visible for task in self._progress.tasks)
        self._progress.stop()


class _Line:
    """One stage: how far it is, drawn at most ten times a second, and its time to go, said once where it is long."""

    def __init__(self, display: _Display, description: str, total: int, start: int, shorten: str) -> None:
        self._display, self._description, self._total, self._shorten = display, description, total, shorten
        self.done, self._start = start, start
        self.task = display.add(description, total, start)
        self.note: Callable[[], str] = lambda: ""
        self._began = self._updated = time.perf_counter()
        self._set_up: tuple[float, int] | None = None  # when and where the pace began that is judged
        self._announced = False

    def advance(self, steps: int) -> None:
        """Says that so many more steps are done."""
        self.done += steps
        now = time.perf_counter()
        if now - self._updated >= _REFRESH or self.done >= self._total:
            self._display.update(self.task, self.done, self.note())
            self._updated = now
        if not self._announced and now - self._began >= _TELLING:
            self._announce(now)
        steps = self.done - self._start
        if self._set_up is None:
            if steps >= _SETTING_UP or now - self._began >= _LONG:
                self._set_up = (now, self.done)
        elif steps >= 2 * (self._set_up[1] - self._start):  # the pace is that of the later steps, which settle down
            self._set_up = (now, self.done)

    def _announce(self, now: float) -> None:
        """Says once how long the stage will take, if that is more than a minute and the pace can be judged."""
        began, done = self._set_up or (self._began, self._start)
        share = (self.done - done) / max(1, self._total - self._start)
        if not share or (self._set_up is None and share < _LARGE_SHARE) or now - began < _TELLING:
            return
        self._announced = True
        seconds = (self._total - self.done) * (now - began) / (self.done - done)
        if seconds > _LONG:
            remedy = f"; fewer {self._shorten} shorten it" if self._shorten else ""
            self._display.say(f"{self._description}: about {_duration(seconds)} to go{remedy}")


@contextmanager
def _line(description: str, total: int, start: int, shorten: str) -> Iterator[_Line]:
    """Opens a line of the whole command's display, or of one of its own; after an exception it disappears."""
    with whole("") if _current.get() is None else nullcontext():
        display = _current.get()
        if display is None:  # never: whole() has made one
            raise RuntimeError("there is no display")
        line = _Line(display, description, total, start, shorten)
        try:
            yield line
        except BaseException:
            display.remove(line.task)
            raise
        display.finish(line.task, line.done)


def _duration(seconds: float) -> str:
    """Writes a duration in words, as exact as an estimate deserves."""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


def _console() -> Console:
    return Console(stderr=True)


_current: ContextVar[_Display | None] = ContextVar("the display of the whole command", default=None)
