"""What starts at once: nothing is imported before it is needed. Imports are counted here, not seconds."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ppl_vae
from ppl_vae.cli.catalogue import COVARIANCES, MEMBERS
from ppl_vae.data.images import DATASETS
from ppl_vae.data.tables import TABLES
from ppl_vae.estimators import ESTIMATORS
from ppl_vae.guides import AUTOGUIDES, FAMILIES
from ppl_vae.models import BAYESIAN_MODELS, MODELS
from ppl_vae.models import COVARIANCES as OF_MIXTURES
from ppl_vae.runs.zoo import ALIASES, OF_A_MODEL, SHARED_MODELS

NOT_FOR_TRAINING = {"matplotlib", "arviz", "sklearn", "zuko", "torchvision"}
HEAVY = NOT_FOR_TRAINING | {"torch", "pyro", "numpy", "pandas", "xarray", "scipy"}
REPORT = f"print(json.dumps(sorted(set(sys.modules) & set({sorted(HEAVY)}))), file=sys.stderr)"
COMMAND = f"import atexit, json, sys; atexit.register(lambda: {REPORT}); from ppl_vae.cli.app import main; main()"


def run(code, *arguments, folder):
    """Runs Python in a process of its own; returns its exit status and the heavy packages that it imported."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True)
    return done.returncode, set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], 0),
        (["--help"], 0),
        *[([command, "--help"], 0) for command in ("train", "compare", "gradients", "new", "list")],
        (["list"], 0),
        (["list", "--json"], 0),
        (["new", "my_model"], 0),
        (["new", "1st"], 2),
        (["train", "--no-such"], 2),
        (["no-such"], 2),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_the_command_line_imports_no_library_before_it_computes(arguments, expected, tmp_path):
    assert run(COMMAND, *arguments, folder=tmp_path) == (expected, set())


@pytest.mark.parametrize(
    ("code", "wanted", "unwanted"),
    [
        ("import ppl_vae", set(), HEAVY),
        ("from ppl_vae import InputError", set(), HEAVY),
        ("from ppl_vae import bounds, check, compare, fit, load", {"torch", "pyro"}, NOT_FOR_TRAINING),
        (
            "from ppl_vae.models import VAE; from ppl_vae.guides import Amortized",
            {"torch"},
            NOT_FOR_TRAINING - {"zuko"},
        ),
        ("import ppl_vae; [getattr(ppl_vae, name) for name in ppl_vae.__all__]", {"torch"}, NOT_FOR_TRAINING),
    ],
)
def test_the_package_imports_what_is_asked_for(code, wanted, unwanted, tmp_path):
    status, imported = run(f"import json, sys; {code}; {REPORT}", folder=tmp_path)
    assert status == 0
    assert wanted <= imported
    assert not unwanted & imported


def test_every_public_name_is_imported_from_where_the_type_checker_finds_it():
    tree = ast.parse(Path(ppl_vae.__file__).read_text())
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == ppl_vae._HOMES
    assert list(ppl_vae._HOMES) == ppl_vae.__all__
    assert set(ppl_vae.__all__) <= set(dir(ppl_vae))
    for name, home in ppl_vae._HOMES.items():
        assert getattr(ppl_vae, name) is getattr(sys.modules[home], name)


def test_no_public_name_is_that_of_a_part():
    folder = Path(ppl_vae.__file__).parent
    parts = {path.stem for path in folder.iterdir()} | {"models", "guides"}
    assert not parts & set(ppl_vae.__all__)


def test_parts_of_the_package_are_attributes_and_other_names_are_not(tmp_path):
    code = "import json, sys, ppl_vae; ppl_vae.models.VAE; ppl_vae.evidence.annealed; ppl_vae.programs.Guide"
    assert run(f"{code}; {REPORT}", folder=tmp_path)[0] == 0
    for name in ("no_such", "__main__", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"module 'ppl_vae' has no attribute '{name}'"):
            getattr(ppl_vae, name)
    with pytest.raises(ImportError, match="cannot import name 'fitt'"):
        exec("from ppl_vae import fitt")


def test_the_catalogue_says_what_the_registries_hold():
    ours = {
        "models": MODELS | BAYESIAN_MODELS,
        "guides": FAMILIES | OF_A_MODEL,
        "estimators": {},
        "data": DATASETS | TABLES,
    }
    lines = {
        kind: {name: member.__doc__.strip().splitlines()[0] for name, member in members.items()}
        for kind, members in ours.items()
    }
    lines["guides"] |= {alias: f"The same as {name}." for alias, name in ALIASES.items()}
    lines["estimators"] = {name: entry.about for name, entry in ESTIMATORS.items()}
    names = {
        "models": [*MODELS, *SHARED_MODELS],
        "guides": [*FAMILIES, *OF_A_MODEL, *ALIASES, *AUTOGUIDES],
        "estimators": [*ESTIMATORS],
        "data": [*DATASETS, *TABLES],
    }
    assert {kind: list(members) for kind, members in MEMBERS.items()} == names
    for kind, found in lines.items():
        assert {name: MEMBERS[kind][name] for name in found} == found
    assert COVARIANCES == OF_MIXTURES
