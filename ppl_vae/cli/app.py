"""The command line, ``ppl-vae``: a thin face on the Python.

Tables and JSON go to standard output, progress and errors to standard error; invalid input ends with status 2.

What is imported here is imported for ``--help`` and a mistyped option too, so torch and all that needs it waits for the
commands: they import inside their functions.
"""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import MISSING
from inspect import Parameter, Signature
from io import TextIOWrapper
from typing import Any, get_type_hints

import typer

from ppl_vae.cli.base_options import Options, ordered_fields
from ppl_vae.cli.compare import compare
from ppl_vae.cli.evaluate import evaluate
from ppl_vae.cli.gradients import gradients
from ppl_vae.cli.members import list_members
from ppl_vae.cli.new import new
from ppl_vae.cli.report import report
from ppl_vae.cli.reproduce import reproduce
from ppl_vae.cli.sample import sample
from ppl_vae.cli.train import train
from ppl_vae.cli.values import MOST
from ppl_vae.errors import InputError, in_one_line

_USAGE: Any = typer.BadParameter.__base__
_BY_HAND = 2  # SIGINT
# in torch's words, on a CPU, on a GPU, and of more bytes than can be counted; its own class would have to be imported
_OF_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
_COMMANDS: dict[str, Callable[[Any], None]] = {
    "train": train,
    "compare": compare,
    "gradients": gradients,
    "evaluate": evaluate,
    "sample": sample,
    "report": report,
    "reproduce": reproduce,
    "new": new,
    "list": list_members,
}
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Train latent-variable models in Pyro, swap their guides, and see how tight each ELBO is."""


def with_parameters(run: Callable[[Any], None]) -> Callable[..., None]:
    """A command as typer reads it, with one parameter for each field of the options that ``run`` takes.

    Args:
        run: takes one argument, ``options``, whose annotation is a subclass of :class:`ppl_vae.cli.options.Options`.
    """
    kind: type[Options] = get_type_hints(run)["options"]
    types = get_type_hints(kind, include_extras=True)
    parameters = [Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for field in ordered_fields(kind):
        if field.name != "typed":
            default = Parameter.empty if field.default is MISSING else field.default
            annotation = types[field.name]
            parameters.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation))

    def command(context: typer.Context, **values: Any) -> None:
        sources = {name: context.get_parameter_source(name) for name in values}
        typed = frozenset(name for name, source in sources.items() if source and source.name == "COMMANDLINE")
        for name, value in values.items():
            if isinstance(value, int) and value > MOST:
                raise InputError(f"--{name.replace('_', '-')} is {value}; {MOST} is the most that it can be")
        try:
            run(kind(typed=typed, **values))
        except KeyboardInterrupt as error:  # of which typer would keep the status alone
            raise _Stopped(error) from None

    command.__doc__ = run.__doc__
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


for _name, _run in _COMMANDS.items():
    app.command(_name)(with_parameters(_run))


def main() -> None:
    """Runs the console script: invalid input prints one line that says how to fix it, and ends with status 2."""
    warnings.showwarning = _in_one_line
    warnings.filterwarnings("ignore", "Encountered (NaN|[+-]inf)", UserWarning)  # Pyro's: fit says more, and ends
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")  # a folder's name need not be UTF-8, and is printed as it is
    given = sys.argv[1:]
    try:
        with _stopped_by_signals(), _joined():
            code = app(given or ["--help"], standalone_mode=False)
    except InputError as error:
        message, code = str(error), 2
    except _USAGE as error:  # an unknown option or command
        command = f"ppl-vae {given[0]}" if given[0] in _COMMANDS else "ppl-vae"
        reason = str(error.format_message()).rstrip(".")
        message, code = f"{reason} (given: {' '.join(given)}): see `{command} --help`", 2
    except (KeyboardInterrupt, _Stopped) as error:
        message, code = _stopped(error)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in _OF_MEMORY):
            raise
        message, code = f"there is not enough memory ({error}): ask for fewer or smaller networks, latents or draws", 2
    else:
        message = ""
    if message:
        print(f"ppl-vae: {in_one_line(message)}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Has SIGTERM and SIGHUP stop a run as Ctrl-C does; one that is ignored, as under nohup, stays so."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _: Any) -> None:
    """Stops the run as Ctrl-C does."""
    raise KeyboardInterrupt(number)


class _Stopped(Exception):
    """Carries a KeyboardInterrupt through typer."""


def _stopped(error: BaseException) -> tuple[str, int]:
    """What to say of a run that was stopped, and its exit status: that of the signal."""
    cause = error.args[0] if isinstance(error, _Stopped) else error
    words = [part for part in cause.args if isinstance(part, str)]
    numbers = [part for part in cause.args if isinstance(part, int)]
    return (words or ["stopped"])[0], 128 + (numbers or [_BY_HAND])[0]


def _joined() -> AbstractContextManager[None]:
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return nullcontext()
    from ppl_vae.training import distributed

    return distributed.joined()


def _in_one_line(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, UserWarning):
        print(f"ppl-vae: {' '.join(str(message).split())}", file=sys.stderr)
