"""``ppl-vae new``: a model, a guide and their tests from a template, to start your own from."""

import keyword
import os
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from ppl_vae.cli.options import NewOptions
from ppl_vae.errors import InputError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


def new(options: NewOptions) -> None:
    """Write a model, a guide and their tests from a template; the tests pass as they are.

    Example: ppl-vae new my_model && pytest test_my_model.py
    """
    for path in new_pair(options.name, options.folder):
        print(path)


def new_pair(name: str, folder: Path) -> list[Path]:
    """Writes NAME.py and test_NAME.py into a folder; returns their paths.

    Raises:
        InputError: for a name that is no Python module's, or files that are there already; then nothing is written.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise InputError(
            f"{name!r} can't name a Python module: take up to 100 lower-case letters, digits and _, such as my_model"
        )
    if name.startswith("test_") or find_spec(name) is not None:
        taken = "is a test's name" if name.startswith("test_") else "is the name of a module that Python has already"
        raise InputError(f"{name!r} {taken}: take another, such as my_{name.removeprefix('test_')}")
    title = "".join(part.capitalize() for part in name.split("_"))
    paths = {folder / f"{name}.py": "pair.py.txt", folder / f"test_{name}.py": "test_pair.py.txt"}
    for path in paths:
        if os.path.lexists(path):
            raise InputError(f"{path} is there already: take another name, or remove it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in paths.items():
            text = files("ppl_vae.cli").joinpath("templates", template).read_text()
            path.write_text(Template(text).substitute(name=name, title=title))
    except OSError as error:
        for path in paths:
            if os.path.lexists(path):
                path.unlink()
        raise InputError(f"{folder} can't be written ({error.strerror}): name another by --folder") from None
    return list(paths)
