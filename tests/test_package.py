"""What a user installs: one import name in the wheel, and it works without the checkout."""

import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(ROOT)], check=True
    )
    return next(place.glob("*.whl"))


def test_the_wheel_holds_one_import_name(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"ppl_vae"}
    for folder, inside in (("ppl_vae", "ppl_vae"), ("models", "ppl_vae/models"), ("guides", "ppl_vae/guides")):
        for file in (ROOT / folder).rglob("*.py"):
            assert f"{inside}/{file.relative_to(ROOT / folder).as_posix()}" in names
    assert "ppl_vae/py.typed" in names


def test_the_wheel_runs_alone(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import runpy, sys, ppl_vae, ppl_vae.models, ppl_vae.guides;"
        f"assert all(m.__file__.startswith({str(tmp_path)!r}) for m in (ppl_vae, ppl_vae.models, ppl_vae.guides));"
        "sys.argv[1:] = ['train', '--epochs', '1', '--hidden', '8', '--particles', '5', '--images', '9', '--json'];"
        "runpy.run_module('ppl_vae', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"test_elbo" in done.stdout


def test_the_checkout_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ppl-vae", "list"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("ppl_vae", run_name="__main__")
    assert not end.value.code
    assert "linear-gaussian" in capsys.readouterr().out
