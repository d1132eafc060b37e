"""The questions: each script of ``examples/`` in percent format is a page, listed by its topic.

The scripts are copied to ``docs/questions``, which is not kept in git: a script and its page are one file.
"""

import ast
import os
import re
from pathlib import Path
from typing import Any

import jupytext
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

TOPICS = {
    "What a VAE is": (
        "why_encode_a_variance",
        "why_not_an_autoencoder",
        "where_is_the_noise_in_the_decoder",
        "what_passes_through_the_noise",
        "latent_manifold",
    ),
    "How tight the bound is": (
        "log_evidence_equals_elbo_plus_kl",
        "how_tight_is_the_bound",
        "where_the_gap_comes_from",
        "amortized_or_per_datapoint",
        "how_wrong_is_mean_field",
        "cover_or_peak",
        "can_the_evidence_be_trusted",
    ),
    "Gradients": ("reparameterized_or_score_function", "discrete_latents"),
    "Mixtures, and several answers to one question": ("gaussian_mixture", "mixture_density_network", "imitation"),
    "Latents that all the data share": ("centered_or_non_centered", "bayesian_mixture"),
    "Your own programs": ("a_model_of_your_own", "plain_svi"),
}
OTHERS = "More questions"  # of scripts that no topic names
INTRODUCTION = """# Questions

Each page is a script of `examples/` that was run when this site was built: what you see is what it prints. Run it
yourself with other data or settings; each takes `--help`.
"""


def read(text: str) -> Any:
    """Reads a script as a notebook of Python."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "python"}
    return notebook


def is_page(script: Path) -> bool:
    """Whether a script is in Jupytext's percent format, with a first cell of Markdown."""
    return script.read_text().lstrip().startswith("# %% [markdown]")


def title(script: Path) -> str:
    """A page's heading, or the first sentence of a script's docstring."""
    text = script.read_text()
    if is_page(script):
        heading = re.search(r"^# # (.+)$", text, re.MULTILINE)
        return heading[1] if heading else script.stem
    return (ast.get_docstring(ast.parse(text)) or script.stem).partition("\n")[0]


def listed(scripts: list[Path]) -> str:
    """The page that lists all others by topic."""
    named = {name: topic for topic, names in TOPICS.items() for name in names}
    order = [name for names in TOPICS.values() for name in names]
    parts = [INTRODUCTION]
    for topic in (*TOPICS, OTHERS):
        here = [script for script in scripts if named.get(script.stem, OTHERS) == topic]
        here.sort(key=lambda script: (order.index(script.stem) if script.stem in order else 0, script.stem))
        pages = [script.stem for script in here if is_page(script)]
        others = [f"- {title(script)} `python examples/{script.name}`" for script in here if not is_page(script)]
        if here:
            parts.append(f"## {topic}\n")
        if pages:
            parts.append("\n".join(["```{toctree}", ":maxdepth: 1", "", *pages, "```", ""]))
        if others:
            parts.append("\n".join([*others, ""]))
    return "\n".join(parts)


def write(folder: Path, scripts: list[Path]) -> None:
    """Writes the copies and the list, each where it is not there yet; takes away what is no page any more."""
    wanted = {script.name: script.read_text() for script in scripts if is_page(script)}
    wanted["index.md"] = listed(scripts)
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if file.name not in wanted and file.is_file():
            file.unlink()
    for name, text in wanted.items():
        file = folder / name
        if not file.exists() or file.read_text() != text:  # a page that is written anew is read anew
            file.write_text(text)


def without_places(app: Sphinx, doctree: nodes.document) -> None:
    """Takes the file and the line of code out of the warnings that a page printed: they are of this machine alone."""
    for block in doctree.findall(nodes.literal_block):
        if "stderr" in block.get("classes", ()):
            text = re.sub(r"^\S*/\S+?:\d+: (\w+: .*)(?:\n  .*)?", r"\1", block.astext(), flags=re.MULTILINE)
            block.children = [nodes.Text(text)]
            block.rawsource = text  # which the highlighter compares


def setup_kernels() -> None:
    """Has the kernels keep quiet of progress bars as widgets, which no page has."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")


def collect(app: Sphinx, config: Config) -> None:
    """Collects the scripts before pages are looked for."""
    source = Path(app.srcdir)
    write(source / "questions", sorted((source.parent / "examples").glob("*.py")))


def setup(app: Sphinx) -> dict[str, bool]:
    """Collects the scripts at each build."""
    app.connect("config-inited", collect)
    app.connect("doctree-read", without_places)
    setup_kernels()
    return {"parallel_read_safe": True, "parallel_write_safe": True}
