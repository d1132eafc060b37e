"""The documentation: Sphinx with furo, pages in Markdown and scripts that are run, nothing from the network."""

import hashlib
import os
import sys
from pathlib import Path

import ppl_vae

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE / "extensions"))

project = "ppl_vae"
author = "the ppl_vae authors"
copyright = author
release = "0.1.0"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "commands",
    "mathml",
    "public_names",
    "questions",
]
exclude_patterns = ["_build", "conf.py", "picture.py", "extensions", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = "ppl_vae"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
highlight_language = "none"  # of blocks that name no language: commands and outputs
html_show_sourcelink = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"

# Pages in Markdown, and the scripts of examples/ as notebooks
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_custom_formats = {".py": ["questions.read", {}]}
nb_execution_mode = "off" if os.environ.get("PPL_VAE_DOCS_EXECUTE") == "off" else "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True  # what a page writes, runs/NAME.png say, goes away with its folder
nb_merge_streams = True
nb_execution_excludepatterns = ["*.md"]


def _digest_of_the_package() -> str:
    """What the pages' outputs depend on beside the scripts: outputs of another version of the package are not kept."""
    package = Path(ppl_vae.__file__).parent
    folders = [package, package.parent / "models", package.parent / "guides"]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


nb_execution_cache_path = str(HERE / "_build" / "executed" / _digest_of_the_package())

# The reference: what docstrings say of types is prose, so the signatures' types are shown beside it
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!ppl_vae).*"),  # torch, Pyro, xarray: their pages are not looked up
    ("py:.*", r"ppl_vae\.(.*\.)?_.*"),
    ("py:class", r"ppl_vae\.training\.(batches\.Batches|evaluation\.Evaluation)"),  # a training's judge has them
]

linkcheck_anchors = False
