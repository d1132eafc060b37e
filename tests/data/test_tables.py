"""Tables: what is read, what is refused and in which words, and the command line on them."""

import json
import math
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from ppl_vae import InputError
from ppl_vae.cli import app as cli
from ppl_vae.data.tables import TABLES, is_table, load_table
from ppl_vae.models import GaussianMixture


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def file(text, name="own.csv"):
        (tmp_path / name).write_text(text)
        return name

    return file


def test_iris_has_its_species_apart():
    table = load_table("iris")
    assert table.values.shape == (150, 4)
    assert table.columns == ("sepal length", "sepal width", "petal length", "petal width")
    assert table.classes == ("setosa", "versicolor", "virginica")
    assert table.targets.unique().tolist() == [0, 1, 2]
    other = load_table("iris", target="petal width")
    assert other.columns == ("sepal length", "sepal width", "petal length")
    torch.testing.assert_close(other.targets, table.values[:, 3])


def test_a_csv_with_a_target_by_name(write):
    name = write('a,"b, or so",kind\n1,2.5,x\n\n3,-4e1,y\n5,6,x\n')
    table = load_table(name, target="kind")
    assert table.columns == ("a", "b, or so")
    assert table.values.tolist() == [[1.0, 2.5], [3.0, -40.0], [5.0, 6.0]]
    assert (table.targets.tolist(), table.classes) == ([0.0, 1.0, 0.0], ("x", "y"))
    numbers = load_table(write("a,b\n1,2\n3,4\n"), target="b")
    assert (numbers.targets.tolist(), numbers.classes) == ([2.0, 4.0], ())


def test_old_faithful_leaves_the_row_names(write):
    write("rownames,eruptions,waiting\n1,3.6,79\n2,1.8,54\n", "faithful.csv")
    table = load_table("old-faithful", ".")
    assert table.columns == ("eruptions", "waiting")
    torch.testing.assert_close(table.values, torch.tensor([[3.6, 79.0], [1.8, 54.0]]))
    assert load_table("old-faithful", ".", "waiting").targets.tolist() == [79.0, 54.0]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("a,b\n1,2\n3,\n,\n4,NA\n", None, "column 'b' misses 2 of 3 values, the first in line 3: drop or fill"),
        ("a,b\n1,2\n3,blue\n", None, r"column 'b' holds text \('blue' in line 3\), expected numbers"),
        ("a,b\n1,2\n3,4,5\n", None, "line 3: 3 cells, the header has 2"),
        ("1,2\n3,4\n", None, "has no header, its first row is 1, 2"),
        ("a,a\n3,4\n", None, "two columns are named 'a'"),
        ("a,b\n", None, "has a header and no rows"),
        ("", None, "is empty"),
        ("a,b\n1,2\n", "c", "no column 'c' for the target: choose from a, b"),
        ("a\n1\n", "a", "no column beside the target 'a'"),
    ],
)
def test_a_csv_that_is_no_table(write, text, target, message):
    with pytest.raises(InputError, match=message):
        load_table(write(text), target=target)


FAULTS = {
    "too large": ("a,b\n1,2\n1e39,3\n", None, r"column 'a' holds 1e\+39 in line 3, more than float32 can hold"),
    "far too large": ("a,b\n1,2\n-1e400,3\n", None, "column 'a' holds -1e400 in line 3, more than float32 can hold"),
    "too large a target": ("a,b\n1,2\n1,3e38\n1,9e38\n", "b", r"column 'b' holds 9e\+38 in line 4"),
    "too close": (
        "a,b\n1,1700000001\n2,1700000003\n",
        None,
        "column 'b' goes from 1700000001 to 1700000003, and float32 rounds it by up to 3: subtract an offset, such as "
        "1700000001",
    ),
    "too close a target": ("a,b\n1,1700000001\n2,1700000003\n", "b", "subtract an offset, such as 1700000001"),
    "too small": ("a,b\n1,1e-45\n2,2e-46\n", None, "column 'b' goes from 2e-46 to 1e-45, .*: rescale it"),
    "typo in the target": (
        "a,b\n1,100\n2,1O0\n3,101\n",
        "b",
        r"the target 'b' holds both numbers \('100' in line 2\) and text \('1O0' in line 3\): correct the cell, or",
    ),
    "a separator of thousands": ("a,b\n1,2\n2,1_0\n", None, r"column 'b' holds text \('1_0' in line 3\)"),
    "one in the target": ("a,b\n1,2\n2,1_0\n", "b", r"both numbers \('2' in line 2\) and text \('1_0' in line 3\)"),
    "a quote within a number": ('a,b\n1,2\n2,"1"2\n', None, "own.csv can't be read .*expected after"),
    "a mark within a cell": ("a,b\n\ufeff1,2\n", None, r"column 'a' holds text \('\\ufeff1' in line 2\)"),
    "infinity": ("a,b\n1,2\ninf,3\n", None, "column 'a' misses 1 of 2 values, the first in line 3"),
    "truth values": ("a,b\n1,TRUE\n2,FALSE\n", None, r"column 'b' holds text \('TRUE' in line 2\)"),
    "missing in the target": ("a,b\n1,x\n2,N/A\n", "b", "column 'b' misses 1 of 2 values, the first in line 3"),
    "short": ("a,b\n1,2\n\n3\n", None, "own.csv, line 4: 1 cells, the header has 2: mend the line"),
    "all long": ("a,b\n0,1,2\n1,3,4\n", None, "own.csv, line 2: 3 cells, the header has 2"),
    "blank rows": ("a,b\n\n , \n,\n", None, "has a header and no rows"),
    "an open quote": ('a,b\n1,2\n3,"4\n', None, "own.csv"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_csv_whose_numbers_would_be_read_wrong(write, fault):
    text, target, message = FAULTS[fault]
    with pytest.raises(InputError, match=message) as caught:
        load_table(write(text), target=target)
    assert "\n" not in str(caught.value)


def test_cells_are_read_as_a_person_reads_them(write):
    table = load_table(write('a,b,c\n 1 ,"2.5",0\n  \n+3,  -4e1,18446744073709551616\n'))
    assert table.values.tolist() == [[1.0, 2.5, 0.0], [3.0, -40.0, 2.0**64]]
    times = load_table(write("t,b\n" + "".join(f"{1700000000 + 3600 * hour},1\n" for hour in range(10_000))))
    assert len(times.values[:, 0].unique()) == 10_000  # of an offset that float32 can carry
    truth = load_table(write("a,b\n1,TRUE\n2,FALSE\n"), target="b")
    assert (truth.targets.tolist(), truth.classes) == ([1.0, 0.0], ("FALSE", "TRUE"))


def test_many_columns_are_read_in_linear_time(write):
    """40 000 columns; each compared with each of the others would take minutes."""
    names = [f"column-{number}" for number in range(40_000)]
    numbers = ",".join(map(str, range(40_000)))
    began = time.process_time()
    table = load_table(write(f"{','.join(names)}\n{numbers}\n{numbers}\n"), target="column-39999")
    assert table.values.shape == (2, 39_999)
    assert table.targets.tolist() == [39_999, 39_999]
    with pytest.raises(InputError, match="two columns are named 'column-39998'"):
        load_table(write(f"{','.join(names[:-1])},column-39998\n{numbers}\n"))
    assert time.process_time() - began < 30


def test_names_that_are_no_table(tmp_path):
    with pytest.raises(InputError, match=r"can't be read \(No such file"):
        load_table("gone.csv")
    with pytest.raises(InputError, match="there is no faithful"):
        load_table("old-faithful", tmp_path)
    with pytest.raises(InputError, match=r"no table 'digits': choose from iris, old-faithful, or give"):
        load_table("digits")
    assert [is_table(name) for name in ("iris", "x.CSV", "digits", "x.npy")] == [True, True, False, False]
    assert set(TABLES) == {"iris", "old-faithful"}


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["ppl-vae", "train", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return status, *capsys.readouterr()

    return call


MIXTURE = ["--model", "gaussian-mixture"]
NETWORK = ["--model", "mixture-density-network", "--hidden", "8"]


def test_a_mixture_of_iris_on_the_command_line(run, write, tmp_path):
    arguments = [*MIXTURE, "--data", "iris", "--epochs", 300, "--starts", 2, "--run", "a"]
    status, out, _ = run(*arguments, "--json")
    found = json.loads(out)
    assert status == 0
    assert found == json.loads((tmp_path / "a" / "result.json").read_text())
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        *("result.json", "run.json", "model.safetensors", "density.png", "history.json", "training.png", "report.html")
    }
    assert found["log_likelihood"] == pytest.approx(-180.186, abs=0.05)
    assert found["bic"] == pytest.approx(580.84, abs=0.1)  # mclust's, with its sign turned
    assert [start["kept"] for start in found["starts"]].count(True) == 1
    model = GaussianMixture(4, 3)
    model.load_state_dict(load_file(tmp_path / "a" / "model.safetensors"))
    assert model.log_evidence(load_table("iris").values).sum().item() == pytest.approx(
        found["log_likelihood"], abs=1e-2
    )


def test_a_mixture_density_of_ones_own_column(run, write, tmp_path):
    x = torch.randn(60)
    name = write("in,out\n" + "".join(f"{value:.5f},{3 * value + 1:.5f}\n" for value in x.tolist()))
    status, out, _ = run(*NETWORK, "--data", name, "--target", "out", "--epochs", 50, "--starts", 2, "--run", "a")
    found = json.loads((tmp_path / "a" / "result.json").read_text())
    assert status == 0
    assert (found["rows"], found["validation_rows"], found["test_rows"]) == (38, 10, 12)
    assert f"test NLL {found['test_nll']:.4f}" in out
    assert (tmp_path / "a" / "density.png").exists()


def test_a_network_is_stopped_and_chosen_by_rows_that_it_is_not_tested_on(run, write, tmp_path):
    """A network of two layers of 100 can learn the 40 rows by heart, whose target is noise."""
    torch.manual_seed(0)
    rows = torch.randn(63, 4).tolist()
    name = write("a,b,c,t\n" + "".join(",".join(f"{value:.4f}" for value in row) + "\n" for row in rows))
    arguments = [*NETWORK[:2], "--data", name, "--target", "t", "--starts", 2, "--epochs", 200]
    status, out, err = run(*arguments, "--run", "a")
    assert status == 0, err
    found = json.loads((tmp_path / "a" / "result.json").read_text())
    kept = next(start for start in found["starts"] if start["kept"])
    assert kept["held_out"] == max(start["held_out"] for start in found["starts"])
    assert found["validation_nll"] == pytest.approx(-kept["held_out"])
    assert found["kept_by"] == "held_out, the log-density of the validation rows"
    assert all(start["epochs"] < 100 for start in found["starts"])  # long before the rows are known by heart
    assert found["settings"]["weight_decay"] == 1
    assert "by the 10 validation rows, whose highest mean is kept" in " ".join(out.split())
    best = 0.5 * (1 + math.log(2 * math.pi))  # of the truth, a standard normal; the test rows' own error is about 0.2
    assert found["test_nll"] < best + 0.6


CONSTANT = "a,b\n1,2\n1,3\n1,5\n1,6\n"
WRONG = {
    "rows": (
        [*MIXTURE, "--components", 4],
        "a,b\n1,2\n2,3\n3,5\n4,4\n",
        "has 4 rows to train on, 4 components need more",
    ),
    "constant": (MIXTURE, CONSTANT, "the column 'a' is constant (1), so its variance is 0: remove it"),
    "missing": (MIXTURE, "a,b\n1,2\n,3\n", "the column 'a' misses 1 of 2 values"),
    "text": (MIXTURE, "a,b\n1,2\nred,3\n", "the column 'a' holds text ('red' in line 3)"),
    "target": ([*MIXTURE, "--target", "c"], CONSTANT, "no column 'c' for the target: choose from a, b"),
    "no target": (NETWORK, CONSTANT, "has no target, which a mixture-density-network predicts: name a column"),
    "constant target": ([*NETWORK, "--target", "a"], CONSTANT, "the target 'a' is constant"),
    "text target": ([*NETWORK, "--target", "b"], "a,b\n1,x\n2,y\n", "the target 'b' holds text"),
    "few": ([*NETWORK, "--target", "b"], "a,b\n1,2\n2,3\n", "has 2 rows: at least 10 are needed"),
    "covariance": ([*MIXTURE, "--covariance", "odd"], "a,b\n1,2\n2,3\n3,1\n4,4\n", "'odd'; choose from spherical"),
    "rate": ([*MIXTURE, "--lr", -1], "a,b\n1,2\n2,3\n3,1\n4,4\n", "--lr is -1.0; a learning rate is above 0"),
    "decay": ([*MIXTURE, "--weight-decay", 1], "a,b\n1,2\n2,3\n3,1\n4,4\n", "--weight-decay is 1.0; it is 0 or above"),
    "guide": ([*MIXTURE, "--guide", "full"], CONSTANT, "--guide means nothing on own.csv, which is a table"),
    "model": (["--model", "vae"], CONSTANT, "is a table, which 'vae' does not take: choose from gaussian-mixture"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bad_table_ends_in_one_line_and_leaves_nothing(run, write, tmp_path, wrong):
    arguments, text, message = WRONG[wrong]
    status, out, err = run("--data", write(text), *arguments, "--run", "a")
    assert status == 2
    assert out == ""
    assert err.startswith("ppl-vae: ")
    assert err.count("\n") == 1
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["own.csv"]


def test_a_mixtures_options_mean_nothing_on_images(run):
    assert "--components, --starts means nothing on digits" in run("--components", 2, "--starts", 1)[2]


def test_a_mixture_of_images_is_refused(run, write):
    assert "takes a table, not the images of digits: --data iris, old-faithful or a .csv" in run(*MIXTURE)[2]
