"""``ppl-vae new``: a model, a guide, their tests and a script from templates, to start your own from."""

import keyword
import os
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from ppl_vae.cli.options import NewOptions
from ppl_vae.errors import InputError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
KINDS = ("local", "shared", "conditional", "discrete", "counts")  # the docstring of ``new`` says what they are
_PLACEHOLDER = "my_model"  # a template is valid Python, whose module has this name


def new(options: NewOptions) -> None:
    """Write a model, a guide, their tests and a script that ends in a table; they pass and run as they are.

    The kinds to start from:

    \b
    local        a continuous latent for each data point, as in a VAE
    shared       latents that all the data share, the weights of a regression say
    conditional  as local, of x given y
    discrete     bits or a class for each data point, log p(x) by counting
    counts       as local, for data that are counts

    Example: ppl-vae new my_model --kind counts && pytest test_my_model.py && python run_my_model.py
    """
    for path in new_pair(options.name, options.folder, options.kind):
        print(path)


def new_pair(name: str, folder: Path, kind: str = "local") -> list[Path]:
    """Writes NAME.py, test_NAME.py and run_NAME.py into a folder; returns their paths.

    Args:
        name: the module's name.
        folder: made where it is not there.
        kind: one of ``KINDS``, what kind of latents or data the model has.

    Raises:
        InputError: for a name that is no Python module's, a kind that there is not, or files that are there already;
            then nothing is written.
    """
    if kind not in KINDS:
        raise InputError(f"there is no kind {kind!r}: choose from {', '.join(KINDS)}")
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise InputError(
            f"{name!r} can't name a Python module: take up to 100 lower-case letters, digits and _, such as my_model"
        )
    if name.startswith("test_") or find_spec(name) is not None:
        taken = "is a test's name" if name.startswith("test_") else "is the name of a module that Python has already"
        raise InputError(f"{name!r} {taken}: take another, such as my_{name.removeprefix('test_')}")
    paths = {folder / f"{part}{name}.py": f"{part}{kind}.py.txt" for part in ("", "test_", "run_")}
    for path in paths:
        if os.path.lexists(path):
            raise InputError(f"{path} is there already: take another name, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in paths.items():
            text = files("ppl_vae.cli").joinpath("templates", template).read_text()
            path.write_text(text.replace(_PLACEHOLDER, name))
    except OSError as error:
        for path in paths:
            if os.path.lexists(path):
                path.unlink()
        raise InputError(f"{folder} can't be written ({error.strerror}): name another by --folder") from None
    return list(paths)
