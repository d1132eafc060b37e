"""References to the module that defines a name are led to the public name that the reference shows."""

import importlib
from functools import cache

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

PACKAGES = ("ppl_vae", "ppl_vae.models", "ppl_vae.guides", "ppl_vae.estimators", "ppl_vae.evidence")


@cache
def homes() -> dict[str, str]:
    """The public names by the full names of what they stand for, and by their last parts alone."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            part = getattr(module, name)
            public = f"{package}.{name}"
            found.setdefault(name, public)
            found.setdefault(f"{getattr(part, '__module__', package)}.{getattr(part, '__qualname__', name)}", public)
    return found


def resolve(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.reference | None:
    """Looks a reference up by its public name; one to a part that is no page's stays text."""
    target = node.get("reftarget", "")
    public = homes().get(target) or homes().get(target.rpartition(".")[2])
    if node.get("refdomain") != "py" or public is None or public == target:
        return None
    return environment.domains["py"].resolve_xref(
        environment, node["refdoc"], app.builder, node["reftype"], public, node, shown
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Listens for references without a target."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
