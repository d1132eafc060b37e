"""Formulas as MathML, which browsers draw themselves: no script, no fonts and no network."""

import html
import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)
# TeX sets a thin space between such a function and what it is of, unless that is in brackets
_FUNCTION = re.compile(r"\\(log|exp|det|max|min)(?![a-zA-Z])(?!\s*(?:[_^(\[]|\\left|\\big|\\Big|\\\{))")


def mathml(source: str, display: str) -> str:
    """Converts a formula of LaTeX; ValueError for a command that is not known."""
    converted = convert(_FUNCTION.sub(r"\\\1\\,", source), display=display)
    unknown = re.search(r">\s*(\\[a-zA-Z]+)", html.unescape(converted))
    if unknown:
        raise ValueError(f"{unknown[1]} is not known")
    return converted


def _converted(source: str, display: str, node: nodes.Element) -> str:
    try:
        return mathml(source, display)
    except Exception as error:
        LOGGER.warning("the formula %r can't be converted to MathML: %s", source, error, location=node)
        return f"<code>{html.escape(source)}</code>"


def visit_math(self: Any, node: nodes.Element) -> None:
    """Writes a formula in a line."""
    self.body.append(_converted(node.astext(), "inline", node))
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.Element) -> None:
    """Writes a formula of its own."""
    self.body.append(f'<div class="math">{_converted(node.astext(), "block", node)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Makes the renderer known."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
