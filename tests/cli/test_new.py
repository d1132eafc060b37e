"""``ppl-vae new``: what it writes passes at once."""

import subprocess
import sys

import pytest

from ppl_vae import InputError
from ppl_vae.cli.new import new_pair


def test_the_template_passes(tmp_path):
    paths = new_pair("my_model", tmp_path / "here")
    assert [path.name for path in paths] == ["my_model.py", "test_my_model.py"]
    done = subprocess.run([sys.executable, "-m", "pytest", str(paths[1])], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
    assert "class MyModelGuide(Guide)" in paths[0].read_text()


@pytest.mark.parametrize("name", ["My", "my-model", "1st", "class", ""])
def test_names_that_are_none(tmp_path, name):
    with pytest.raises(InputError, match="can't name a Python module"):
        new_pair(name, tmp_path)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "test_mine.py").write_text("kept")
    with pytest.raises(InputError, match="is there already: take another name"):
        new_pair("mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
