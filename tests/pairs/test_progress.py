"""Progress: what a terminal shows, what a file gets, and what is left after an exception."""

import io
import re

import pytest
from rich.console import Console

from ppl_vae.pairs import progress
from ppl_vae.pairs.progress import bar, stage, whole


class Clock:
    """Time that passes when a test says so."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    return fake


@pytest.fixture
def terminal(monkeypatch):
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, force_interactive=True, width=100, height=20)
    monkeypatch.setattr(progress, "_console", lambda: console)
    return file


@pytest.fixture
def plain(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(progress, "_console", lambda: Console(file=file, force_terminal=False, width=40))
    return file


def screen(text):
    """What a terminal shows in the end: the lines, with the cursor's movements and the erased lines carried out."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[0-9;?]*[a-zA-Z]|\n|\r)", text):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\r" or not part:
            continue
        elif match := re.fullmatch(r"\x1b\[(\d*)A", part):
            row -= int(match[1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


def test_the_stages_of_a_command_are_lines_of_one_display(terminal):
    with whole("compare"):
        with bar("diagonal", 2, 0, True) as advance:
            for epoch in (1, 2):
                advance(epoch, -3.0, 10)
        with stage("bounds", 3, True, shorten="particles") as advance:
            advance(3)
    shown = screen(terminal.getvalue())
    assert [line.split()[0] for line in shown] == ["compare", "diagonal", "bounds"]
    assert "epoch 2  ELBO -3.00 nats" in shown[1]
    assert "to go" not in "".join(shown)
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1  # the cursor is back


def test_a_stage_within_a_stage_shares_its_display(terminal):
    with stage("tightness", 2, True) as outer, stage("bounds", 1, True) as inner:
        inner(1)
        outer(2)
    assert [line.split()[0] for line in screen(terminal.getvalue())] == ["tightness", "bounds"]
    assert terminal.getvalue().count("\x1b[?25l") == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_half_drawn_after_an_exception(terminal, error):
    def fail():
        with whole("compare"):
            with stage("first", 1, True) as advance:
                advance(1)
            with stage("second", 10, True) as advance:
                advance(3)
                raise error

    with pytest.raises(error):
        fail()
    assert [line.split()[0] for line in screen(terminal.getvalue())] == ["first"]
    assert terminal.getvalue().endswith(("\x1b[?25h", "\n"))
    terminal.truncate(0)
    terminal.seek(0)

    def fail_alone():
        with stage("alone", 10, True) as advance:
            advance(3)
            raise error

    with pytest.raises(error):
        fail_alone()
    assert screen(terminal.getvalue()) == []
    assert progress._current.get() is None


def test_a_training_that_stops_early_is_a_whole_bar(terminal):
    with bar("early", 100, 0, True) as advance:
        advance(1, -3.0, 10)
    assert "to go" not in screen(terminal.getvalue())[-1]


def test_more_stages_than_a_terminal_has_room_for_leave_the_latest(terminal):
    with whole("many"):
        for number in range(30):
            with stage(f"stage-{number}", 1, True) as advance:
                advance(1)
    shown = [line.split()[0] for line in screen(terminal.getvalue())]
    assert shown[-1] == "stage-29"
    assert len(shown) < 20


def test_no_terminal_gets_no_bar(plain):
    with whole("compare"), stage("bounds", 3, True) as advance, bar("fit", 1, 0, True) as step:
        advance(3)
        step(1, -3.0, 10)
    assert plain.getvalue() == ""


def steps(advance, clock, seconds, count):
    for _ in range(count):
        clock.now += seconds
        advance(1)


def test_a_long_stage_says_once_how_long_it_takes(plain, clock):
    with stage("bounds", 300, True, shorten="particles") as advance:
        steps(advance, clock, 1.0, 300)
    assert plain.getvalue() == "bounds: about 5 min to go; fewer particles shorten it\n"


def test_the_line_stands_above_the_bars_of_a_terminal(terminal, clock):
    with whole("compare"), stage("bounds", 300, True) as advance:
        steps(advance, clock, 100.0, 300)
    assert screen(terminal.getvalue())[0] == "bounds: about 8.3 h to go"


def test_a_first_step_that_compiles_is_no_measure(plain, clock):
    with bar("fit", 10_000, 0, True) as advance:
        for step in range(10_000):
            clock.now += 0.002 if step else 30.0
            advance(1, -3.0, 10)
    assert plain.getvalue() == ""


def test_steps_that_compile_are_no_measure(plain, clock):
    """A slow start, in which a step is validated, one traced and one compiled, told of ten thousand hours once."""
    with bar("fit", 100_000, 0, True) as advance:
        for step in range(100_000):
            clock.now += 10.0 if step in (0, 1, 3) else 0.002
            advance(1, -3.0, 10)
    assert plain.getvalue() == "fit: about 3 min to go; fewer epochs shorten it\n"


def test_a_stage_of_few_long_steps_is_judged_by_its_first(plain, clock):
    with stage("annealed", 4, True, shorten="steps") as advance:
        steps(advance, clock, 120.0, 4)
    assert plain.getvalue() == "annealed: about 6 min to go; fewer steps shorten it\n"


def test_a_training_that_goes_on_counts_what_is_left(plain, clock):
    with bar("fit", 1000, 900, True) as advance:
        for _ in range(100):
            clock.now += 1.0
            advance(10, -3.0, 10)
    assert plain.getvalue() == "fit: about 2 min to go; fewer epochs shorten it\n"


def test_short_stages_and_hidden_ones_say_nothing(plain, clock):
    with stage("short", 50, True) as advance:
        steps(advance, clock, 1.0, 50)
    with whole("quiet"), stage("hidden", 300, False) as advance, bar("fit", 300, 0, False) as step:
        steps(advance, clock, 1.0, 300)
        step(1, -3.0, 10)
    assert plain.getvalue() == ""
