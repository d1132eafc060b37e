"""The site builds without a warning, and its reference has every public name."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("ppl_vae", "ppl_vae.models", "ppl_vae.guides", "ppl_vae.estimators", "ppl_vae.evidence")
NEEDED = ("sphinx", "furo", "myst_nb", "jupytext", "sphinx_copybutton", "latex2mathml")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built in a copy of what it is made of, no page run; and what Sphinx said."""
    for name in NEEDED:
        pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    for part in ("docs", "examples", "ppl_vae/cli/templates"):  # pages show the templates
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("_build", "questions", "__pycache__"))
    for file in ROOT.glob("*.md"):
        shutil.copy(file, folder)
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", "html", ".", "../site"]
    environment = os.environ | {"PPL_VAE_DOCS_EXECUTE": "off"}
    done = subprocess.run(command, cwd=folder / "docs", env=environment, capture_output=True, text=True, timeout=300)
    return folder / "site", done


def test_it_builds_without_a_warning(site):
    _, done = site
    assert done.returncode == 0, done.stderr


def test_the_reference_has_every_public_name(site):
    from sphinx.util.inventory import InventoryFile

    folder, _ = site
    inventory = InventoryFile.loads((folder / "objects.inv").read_bytes(), uri="").data
    described = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    last = {name.rpartition(".")[2] for name in described}
    for package in PACKAGES:
        module = importlib.import_module(package)
        functions = [name for name in module.__all__ if callable(getattr(module, name))]
        missing = [name for name in functions if f"{package}.{name}" not in described and name not in last]
        assert not missing, f"name {', '.join(missing)} of {package} on a page of docs/api"


def test_formulas_are_drawn_without_the_network(site):
    folder, _ = site
    page = (folder / "ideas" / "one-quantity.html").read_text()
    assert "<math" in page
    loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="([^"]+)"', page)
    assert [address for address in loaded if "//" in address or "mathjax" in address.lower()] == []


def test_each_example_that_is_a_page_has_one(site):
    folder, _ = site
    scripts = [file for file in (ROOT / "examples").glob("*.py") if file.read_text().startswith("# %% [markdown]")]
    assert scripts
    assert [file.name for file in scripts if not (folder / "questions" / f"{file.stem}.html").exists()] == []


def test_pages_name_no_folder_of_this_machine(site):
    folder, _ = site
    named = [page.name for page in folder.rglob("*.html") if str(ROOT) in page.read_text()]
    assert named == []
