"""What docstrings promise: their examples run, every public name has one, and first lines are sentences."""

import doctest
import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest

import ppl_vae
import ppl_vae.estimators
import ppl_vae.evidence
import ppl_vae.guides
import ppl_vae.models

PACKAGES = (ppl_vae, ppl_vae.models, ppl_vae.guides)  # the two lie beside the first in a checkout
LISTED = (*PACKAGES, ppl_vae.estimators, ppl_vae.evidence)  # their __all__ is public
WHOLE = re.compile(r"ppl_vae\.(programs|networks|errors|plots\.\w+)")  # all that is defined there is public


def modules() -> list[ModuleType]:
    """All modules of the package, by the names that they are imported by."""
    found = {package.__name__ for package in PACKAGES}
    for package in PACKAGES:
        found |= {part.name for part in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")}
    return [importlib.import_module(name) for name in sorted(found) if not name.endswith("__main__")]


def public() -> dict[str, object]:
    """The public classes and functions by name."""
    named = {f"{package.__name__}.{name}": getattr(package, name) for package in LISTED for name in package.__all__}
    for module in modules():
        if WHOLE.fullmatch(module.__name__):
            named |= {f"{module.__name__}.{name}": part for name, part in defined_in(module)}
    own = {name: part for name, part in named.items() if getattr(part, "__module__", "").startswith("ppl_vae")}
    return {name: part for name, part in own.items() if inspect.isclass(part) or inspect.isfunction(part)}


def defined_in(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that a module defines and does not hide."""
    for name, part in vars(module).items():
        own = getattr(part, "__module__", "") == module.__name__ and not name.startswith("_")
        if own and (inspect.isclass(part) or inspect.isfunction(part)):
            yield name, part


def text_of(part: object) -> str:
    """The docstring of its own, not that of a base class."""
    return (vars(part).get("__doc__") if inspect.isclass(part) else part.__doc__) or ""


def described() -> dict[str, str]:
    """The docstrings of all modules, and of what they define and do not hide, down to methods; by name."""
    texts = {}
    for module in modules():
        texts[module.__name__] = module.__doc__ or ""
        for name, part in defined_in(module):
            texts[f"{module.__name__}.{name}"] = text_of(part)
            for key, method in vars(part).items() if inspect.isclass(part) else ():
                inner = method.fget if isinstance(method, property) else getattr(method, "__func__", method)
                if inspect.isfunction(inner) and not key.startswith("_"):
                    texts[f"{module.__name__}.{name}.{key}"] = text_of(inner)
    return texts


EXAMPLES = [
    example
    for module in modules()
    for example in doctest.DocTestFinder().find(module, module.__name__)
    if example.examples
]
PUBLIC = public()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_and_gives_what_it_says(example, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of libraries, which ask for newer ones
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, clear_globs=False)
    assert not result.failed, capsys.readouterr().out


def test_every_public_name_has_an_example():
    missing = [name for name, part in PUBLIC.items() if ">>>" not in text_of(part)]
    assert not missing, f"add an example under Examples: to {', '.join(missing)}"


def test_every_first_line_is_a_sentence():
    firsts = {name: text.split("\n")[0].strip() for name, text in described().items()}
    wrong = [f"{name}: {first!r}" for name, first in firsts.items() if not first.endswith(".")]
    assert not wrong, "these docstrings have no first line that ends in a full stop:\n" + "\n".join(wrong)
