"""The directives ``command``, a command of ``ppl-vae`` with its options, and ``members``, all that it can name."""

import re
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from ppl_vae.cli.app import app as ppl_vae
from ppl_vae.cli.catalogue import MEMBERS

COMMANDS: dict[str, Any] = typer.main.get_command(ppl_vae).commands  # type: ignore[attr-defined]


def described(name: str) -> str:
    """A command's arguments and options in Markdown, one ``option`` directive each."""
    command = COMMANDS[name]
    with command.make_context(name, [], resilient_parsing=True) as context:
        records = [(part, part.get_help_record(context)) for part in command.get_params(context)]
    lines = [f":::{{program}} ppl-vae {name}\n:::\n"]
    for _, record in records:
        if record is not None and not record[0].startswith("--help"):
            names, text = record
            lines += [f":::{{option}} {names}", _escaped(text), ":::", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """What is Markdown by accident is text; what lies between backticks is code already."""
    parts = re.split(r"(`+[^`]*`+)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([$*_<\[\]])", r"\\\1", part) for part in parts)


class Command(SphinxDirective):
    """``:::{command} train``: what the command does, and its options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Reads the Markdown."""
        command = COMMANDS[self.arguments[0]]
        first, *others = (command.help or "").split("\n\n")
        examples = [part for part in others if part.strip().startswith("Example")]
        prose = [part for part in others if part not in examples]
        shown = [f"```\n{' '.join(part.split()).split(': ', 1)[1]}\n```" for part in examples]
        text = "\n\n".join([_escaped(" ".join(part.split())) for part in (first, *prose)] + shown)
        return self.parse_text_to_nodes(f"{text}\n\n{described(self.arguments[0])}", allow_section_headings=False)


class Members(SphinxDirective):
    """``:::{members} guides``: the names that the commands take, with one line each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Writes a list of definitions."""
        lines = MEMBERS[self.arguments[0]].items()
        text = "\n\n".join(f"`{name}`\n: {_escaped(line)}" for name, line in lines)
        return self.parse_text_to_nodes(text, allow_section_headings=False)


def setup(app: Sphinx) -> dict[str, bool]:
    """Makes the directive known."""
    app.add_directive("command", Command)
    app.add_directive("members", Members)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
