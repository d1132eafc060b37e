"""The command line, run as a person or a program runs it."""

import csv
import json
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file

from ppl_vae.cli import results
from ppl_vae.cli.base_options import ordered_fields
from ppl_vae.cli.options import (
    OF_IMAGES,
    OF_TABLES,
    CompareOptions,
    GradientsOptions,
    ListOptions,
    NewOptions,
    TrainOptions,
)
from ppl_vae.estimators import ESTIMATORS
from ppl_vae.guides import AUTOGUIDES, FAMILIES
from ppl_vae.models import MODELS
from ppl_vae.plots import images
from ppl_vae.runs.zoo import ALIASES, FIRST_CHOICES, OF_A_MODEL, SHARED_MODELS
from ppl_vae.training.fit import resolve_device

QUICK = ["--epochs", "2", "--hidden", "16", "--particles", "20", "--images", "30"]


def test_list_names_every_member(run):
    status, out, _ = run("list", "--json")
    named = json.loads(out)
    assert status == 0
    assert set(named["models"]) == {*MODELS, *SHARED_MODELS}
    assert set(named["estimators"]) == set(ESTIMATORS)
    assert set(named["guides"]) == {*FAMILIES, *OF_A_MODEL, *ALIASES, *AUTOGUIDES}
    assert all(line for kind in named.values() for line in kind.values())
    assert all(name in run("list")[1] for kind in named.values() for name in kind)


@pytest.mark.parametrize("command", [[], ["train"], ["compare"], ["gradients"], ["list"]])
def test_help_shows_an_example(run, command):
    status, out, _ = run(*command, "--help")
    assert status == 0
    assert ("Example: ppl-vae" in out) == bool(command)


def test_compare_writes_a_whole_folder(run, tmp_path):
    status, out, err = run("compare", "--latents", 2, *QUICK, "--run", "here/now")
    folder = tmp_path / "here" / "now"
    assert status == 0
    assert {path.name for path in folder.iterdir()} == {
        "table.json",
        "table.csv",
        "bounds.nc",
        "history.json",
        "run.json",
        "report.html",
        "bounds.png",
        "training.png",
        "reconstructions.png",
        "samples.png",
        "gaps.png",
        "rate-distortion.png",
        "khat.png",
        "manifold.png",
        "model.safetensors",
        *(f"guide-{name}.safetensors" for name in FIRST_CHOICES),
    }
    assert [path.name for path in folder.parent.iterdir()] == ["now"]
    found = json.loads((folder / "table.json").read_text())
    sound = [row for row in found["guides"] if row["is_bound"]]
    assert [row["guide"] for row in found["guides"]][-1] == "delta"
    assert [row["elbo"] for row in sound] == sorted((row["elbo"] for row in sound), reverse=True)
    assert found["guides"][-1]["note"] == "not a bound"
    assert found["guides"][-1]["gap"] is None
    for row in sound:
        assert row["gap"] == pytest.approx(row["log_evidence"] - row["elbo"])
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["guide"] for row in rows] == [row["guide"] for row in found["guides"]]
    bounds = xr.load_dataset(folder / "bounds.nc", engine="scipy")
    assert bounds.iwelbo.dims == ("guide", "K", "data")
    assert bounds.log_evidence.dims == ("data",)
    assert bounds.sizes == {"guide": 4, "K": 5, "data": 30}
    assert float(bounds.elbo.sel(guide="full").mean()) == pytest.approx(
        next(row["elbo"] for row in sound if row["guide"] == "full")
    )
    assert bounds.is_bound.sel(guide="delta") == 0
    state = load_file(folder / "guide-flow.safetensors")
    assert all(value.isfinite().all() for value in state.values())
    assert "delta (not a bound)" in out
    assert "here/now" in out
    assert err == ""  # which is no terminal


def test_json_is_alone_on_standard_output(run, tmp_path):
    status, out, _ = run("compare", "--guides", "full,diagonal", "--seed", 3, *QUICK, "--json", "--run", "a")
    first = json.loads(out)
    assert status == 0
    assert {row["guide"] for row in first["guides"]} == {"full", "diagonal"}
    assert first["settings"]["seed"] == 3
    again = json.loads(run("compare", "--guides", "full,diagonal", "--seed", 3, *QUICK, "--json", "--run", "b")[1])
    for one, other in zip(first["guides"], again["guides"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_joint_trains_a_model_with_each_guide(run, tmp_path):
    status, _, _ = run("compare", "--guides", "full,diagonal", "--joint", *QUICK, "--run", "a")
    assert status == 0
    first, second = (load_file(tmp_path / "a" / f"model-{name}.safetensors") for name in ("full", "diagonal"))
    assert not torch.equal(first["decoder.0.weight"], second["decoder.0.weight"])
    assert xr.load_dataset(tmp_path / "a" / "bounds.nc", engine="scipy").log_evidence.dims == ("guide", "data")
    assert (tmp_path / "a" / "samples-full.png").exists()


def test_an_exact_guide_closes_the_gap(run):
    options = ["--model", "linear-gaussian", "--latents", 3, "--guides", "exact-posterior,diagonal", *QUICK, "--json"]
    found = json.loads(run("compare", *options)[1])
    assert found["log_evidence"] == "exact"
    assert found["guides"][0]["guide"] == "exact-posterior"
    assert abs(found["guides"][0]["gap"]) < 1e-4
    assert found["guides"][1]["gap"] > 0.01
    joint = json.loads(run("compare", *options, "--joint")[1])
    assert {row["guide"]: abs(row["gap"]) < 1e-4 for row in joint["guides"]} == {
        "exact-posterior": True,
        "diagonal": False,
    }


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_train_writes_a_whole_folder(run, tmp_path, likelihood):
    status, out, _ = run("train", "--likelihood", likelihood, *QUICK, "--json", "--run", "a")
    found = json.loads(out)
    assert status == 0
    assert found == json.loads((tmp_path / "a" / "result.json").read_text())
    assert len(found["train_elbo"]) == 2
    assert found["test_iwelbo"]["20"] > found["test_elbo"]
    assert found["peak_memory_gib"] > 0.1
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "result.json",
        "model.safetensors",
        "guide.safetensors",
        "parts",
        "bounds.nc",
        "history.json",
        "run.json",
        "report.html",
        "training.png",
        "reconstructions.png",
        "samples.png",
    }


def own(kind):
    levels = np.arange(20 * 4 * 5).reshape(20, 4, 5)
    return {"bits": (levels % 3 == 0).astype(np.uint8), "grey": (levels % 256).astype(np.uint8)}[kind]


@pytest.mark.parametrize(
    ("command", "kind", "told"),
    [
        ("compare", "bits", "own.npy: 16 + 4 images of 4 x 5, bits\n"),
        ("gradients", "bits", "own.npy: 16 + 4 images of 4 x 5, bits\n"),
        (
            "train",
            "grey",
            "own.npy: 16 + 4 images of 4 x 5, grey levels from 0 to 1, each pixel drawn as 0 or 1 with its grey level "
            "for the probability\n",
        ),
    ],
)
def test_what_a_file_of_images_was_understood_to_hold_is_said(run, tmp_path, command, kind, told):
    np.save(tmp_path / "own.npy", own(kind))
    quick = {
        "train": QUICK,
        "compare": ["--guides", "diagonal", *QUICK],
        "gradients": [
            "--epochs",
            1,
            "--hidden",
            8,
            "--latents",
            "2,3",
            "--draws",
            10,
            "--reference-draws",
            0,
            "--no-race",
            "--learning-steps",
            0,
            "--estimators",
            "pathwise",
        ],
    }
    status, out, err = run(command, "--data", "own.npy", *quick[command], "--json")
    assert status == 0, err
    assert err.count(f"ppl-vae: {told}") == err.count("images of") == 1
    json.loads(out)


def test_a_likelihood_of_bits_is_that_of_the_users_bits(run, tmp_path):
    """Half of the pixels are 1, at random: no model has more than -20 log 2 = -13.9 nats in the long run."""
    torch.manual_seed(0)
    np.save(tmp_path / "own.npy", torch.rand(500, 4, 5).lt(0.5).numpy().astype(np.uint8))
    status, out, err = run("train", "--data", "own.npy", *QUICK, "--json")
    assert status == 0, err
    assert -20 < json.loads(out)["test_elbo"] < -13


def test_train_marks_a_delta_guide(run):
    _, out, _ = run("train", "--guide", "delta", *QUICK)
    assert "ELBO (not a bound)" in out
    assert "IWELBO K=20 (not a bound)" in out
    assert json.loads(run("train", "--guide", "delta", *QUICK, "--json")[1])["is_bound"] is False


def test_runs_get_a_new_folder_each(run, tmp_path):
    for _ in range(2):
        assert run("train", *QUICK)[0] == 0
    assert len(list((tmp_path / "runs").glob("train-digits-*"))) == 2


WRONG = {
    "data": (["--data", "minst"], "there is no data set 'minst': choose from digits, mnist"),
    "model": (["--model", "gan"], "there is no model 'gan': choose from vae, conditional-vae"),
    "likelihood": (["--likelihood", "poisson"], "'poisson'; a VAE has 'bernoulli' or 'gaussian'"),
    "hidden": (["--hidden", "400,x"], "--hidden is '400,x'; expected numbers from 1 to 2147483647"),
    "rate": (["--lr", "0"], "lr is 0.0; a learning rate is above 0"),
    "device": (["--device", "warp"], "device 'warp' can't be used here"),
    "missing": (["--data", "static-mnist", "--data-root", "nowhere"], "there is no binarized_mnist_train.amat"),
    "own": (["--data", "gone.npy"], "gone.npy can't be read"),
    "folder": (
        ["--run", "/dev/null/a"],
        "/dev/null/a can't be written (Not a directory): name another folder by --run",
    ),
    "diverged": (["--lr", "1e12", "--likelihood", "gaussian", *QUICK], "lower the learning rate"),
}


@pytest.mark.parametrize("command", ["train", "compare"])
@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_ends_in_one_line_and_leaves_nothing(run, tmp_path, command, wrong):
    arguments, message = WRONG[wrong]
    status, out, err = run(command, *(() if "--run" in arguments else ("--run", "a")), *arguments)
    line = err.strip().splitlines()[-1]
    assert status == 2
    assert out == ""
    assert line.startswith("ppl-vae: ")
    assert message in line
    assert "Traceback" not in err
    if wrong != "diverged":  # where Pyro warns of the NaN first
        assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_unknown_guides(run):
    assert "there is no guide 'fool': choose from delta" in run("train", "--guide", "fool")[2]
    assert "there is no guide 'fool': choose from delta" in run("compare", "--guides", "full,fool")[2]
    assert (
        "'exact-posterior' does not fit a VAE (it has no posterior(x) of its own): choose from delta"
        in run("compare", "--guides", "exact-posterior")[2]
    )


def test_a_run_is_never_written_over(run, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "precious").write_text("kept")
    status, _, err = run("train", *QUICK, "--run", "a")
    assert status == 2
    assert "a is there already and not empty: name another folder by --run" in err
    assert (tmp_path / "a" / "precious").read_text() == "kept"


def test_a_failure_while_writing_loses_nothing(run, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images, "samples", fail)
    status, _, err = run("train", *QUICK, "--run", "a")
    assert status == 2
    assert "a can't be written (No space left on device)" in err
    assert err.endswith("`ppl-vae train --resume a` goes on\n")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ppl_vae.training.passes.Passes.run", fail)  # which is trained already
    assert run("train", "--resume", "a")[0] == 0
    assert (tmp_path / "a" / "samples.png").exists()


def test_json_has_no_nan():
    assert json.dumps(results.plain({"a": [float("nan"), np.inf, 1.5]})) == '{"a": [null, null, 1.5]}'


@pytest.mark.parametrize("estimator", ["score-function", "dreg"])
def test_train_by_an_estimator(run, estimator):
    status, out, err = run("train", *QUICK, "--estimator", estimator, "--latents", 2, "--json")
    assert status == 0, err
    assert json.loads(out)["settings"]["estimator"] == estimator


def test_a_relaxed_training_is_marked(run):
    model = ["--model", "bernoulli-vae", "--guide", "bernoulli"]
    status, out, err = run("train", *QUICK, *model, "--estimator", "gumbel-softmax", "--latents", 4, "--json")
    assert status == 0, err
    assert err == ""  # which is no terminal
    assert json.loads(out)["is_bound"]  # measured afterwards with discrete draws


def test_gradients_writes_a_whole_folder(run, tmp_path):
    sizes = ["--epochs", 2, "--hidden", 8, "--latents", "2,3", "--particles", "2,4", "--draws", 20]
    status, out, err = run("gradients", *sizes, "--reference-draws", 100, "--run", "a", "--estimators", "pathwise,rloo")
    assert status == 0, err
    for word in ("pathwise", "rloo", "variance x s", "100 pathwise draws", "3 latents, after 2 epochs"):
        assert word in out
    found = json.loads((tmp_path / "a" / "gradients.json").read_text())
    total = [record for record in found["records"] if record["group"] == "total"]
    assert {(one["estimator"], one["latents"], one["particles"], one["epoch"]) for one in total} == {
        (name, *point)
        for name in ("pathwise", "rloo")
        for point in ((2, 2, 2), (3, 2, 0), (3, 2, 1), (3, 2, 2), (3, 4, 2))
    }
    assert all(one["variance_low"] <= one["variance"] <= one["variance_high"] for one in total)
    assert sorted(found["training"]) == ["pathwise", "rloo"]
    with (tmp_path / "a" / "gradients.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(found["records"])
    figures = {path.name for path in (tmp_path / "a").glob("*.png")}
    assert figures == {"training.png", "variance-epoch.png", "variance-latents.png", "variance-particles.png"}


def test_the_training_goes_on_with_the_usual_draws_after_an_estimator_of_other_draws(run):
    sizes = ["--epochs", 2, "--hidden", 8, "--latents", 2, "--draws", 20, "--reference-draws", 100, "--no-race"]
    found = {}
    for estimators in ("pathwise,score-function", "score-function,pathwise"):
        status, out, err = run("gradients", *sizes, "--estimators", estimators, "--json")
        assert status == 0, err
        ends = [one for one in json.loads(out)["records"] if one["group"] == "total" and one["final"]]
        found[estimators] = {one["estimator"]: (one["variance"], one["reference"]) for one in ends}
    first, second = found.values()
    assert first["pathwise"] == second["pathwise"]
    assert first["score-function"] == second["score-function"]


def test_gradients_of_bits_are_exact(run):
    sizes = ["--epochs", 1, "--hidden", 8, "--latents", 3, "--draws", 20, "--no-race"]
    status, out, err = run(
        "gradients", *sizes, "--model", "bernoulli-vae", "--estimators", "disarm,enumeration", "--json"
    )
    assert status == 0, err
    found = json.loads(out)
    ends = {one["estimator"]: one for one in found["records"] if one["group"] == "total" and one["final"]}
    assert ends["enumeration"]["variance"] < 1e-6 * ends["disarm"]["variance"]
    assert ends["disarm"]["reference"] == "enumeration"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--estimator", "disarm"], "the estimator 'disarm' does not fit latents that are continuous: choose"),
        (["train", "--estimator", "magic"], "there is no estimator 'magic': choose from pathwise"),
        (["train", "--step-particles", 3], "--step-particles is 3, which needs an --estimator"),
        (["train", "--estimator", "rloo", "--step-particles", 1], "rloo needs at least 2 particles, not 1"),
        (["gradients", "--estimators", "magic"], "there is no estimator 'magic': choose from pathwise"),
        (
            ["gradients", "--latents", "two"],
            "--latents is 'two'; expected numbers from 1 to 2147483647, comma-separated",
        ),
        (["gradients", "--data", "iris"], "gradients takes images, iris is a table"),
        (
            ["train", "--data", "iris", "--model", "gaussian-mixture", "--step-particles", 2],
            "--step-particles means noth",
        ),
    ],
)
def test_gradients_that_cannot_be_had_are_told_in_one_line(run, tmp_path, arguments, message):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("capture", ["false", "true"])
def test_train_captured_and_coarse_goes_on_from_a_checkpoint(run, tmp_path, capture):
    arguments = ["train", *QUICK, "--capture", capture, "--precision", "bf16", "--checkpoint", "kept.pt", "--json"]
    status, out, err = run(*arguments)
    assert status == 0, err
    assert (tmp_path / "kept.pt").exists()
    status, again, err = run(*arguments)
    assert status == 0, err
    assert json.loads(again)["train_elbo"] == json.loads(out)["train_elbo"]
    assert json.loads(again)["test_elbo"] == json.loads(out)["test_elbo"]
    assert json.loads(out)["settings"]["capture"] is (capture == "true")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--capture", "yes"], "--capture is 'yes'; expected auto, true, false, compile"),
        (["--precision", "fp8"], "precision is 'fp8'; expected float32, tf32, bf16"),
    ],
)
def test_other_ways_to_compute_are_refused(run, tmp_path, option, message):
    status, out, err = run("train", *QUICK, *option)
    assert (status, out) == (2, "")
    assert err == f"ppl-vae: {message}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message", "help_of"),
    [
        (["train", "--epochs", "-3"], "(given: train --epochs -3)", "ppl-vae train"),
        (["compare", "--precison", "bf16"], "--precison", "ppl-vae compare"),
        (["trian"], "'trian'", "ppl-vae"),
        (["new"], "(given: new)", "ppl-vae new"),
    ],
)
def test_an_option_or_a_command_that_is_none_is_told_in_one_line(run, tmp_path, arguments, message, help_of):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("ppl-vae: ")
    assert err.endswith(f": see `{help_of} --help`\n")
    assert message in err
    assert err.count("\n") == 1


def test_a_run_that_is_stopped_says_how_it_goes_on(run, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ppl_vae.cli.image_runs.fit", stopped)
    status, out, err = run("train", *QUICK, "--run", "a")
    assert (status, out) == (130, "")
    assert err == "ppl-vae: stopped\n"
    assert not list(tmp_path.iterdir())


SMALL_LABORATORY = ["--hidden", 8, "--draws", 10, "--reference-draws", 0, "--no-race", "--estimators", "pathwise"]
KINDS = [TrainOptions, CompareOptions, GradientsOptions, NewOptions, ListOptions]


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_takes_the_fields_of_its_options_in_their_order(run, kind):
    """The same names in the help, in the same order, whatever reads them."""
    command = kind.__name__.removesuffix("Options").lower()
    out = run(command, "--help")[1]
    spelled = {"as_json": "json", "race": "race / --no-race", "run": "run, --folder", "runs": "from"}
    names = [field.name for field in ordered_fields(kind) if field.name not in ("typed", "name")]
    options = [f"--{spelled.get(name, name.replace('_', '-'))}" for name in names]
    shown = re.findall(r"^  (--[^ ,]+(?:(?:,| /) --[^ ]+)?)", out.partition("\nOptions:")[2], re.MULTILINE)
    assert shown == [*options, "--help"]


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["train", *QUICK], "result.json"),
        (["train", "--data", "iris", "--model", "gaussian-mixture", "--epochs", 2, "--starts", 1], "result.json"),
        (["compare", "--guides", "diagonal", *QUICK], "table.json"),
        (["gradients", "--epochs", 1, *SMALL_LABORATORY], "gradients.json"),
    ],
)
def test_a_run_records_its_options(run, tmp_path, arguments, file):
    status, _, err = run(*arguments, "--quiet", "--seed", 5, "--run", "a")
    assert (status, err) == (0, "")
    settings = json.loads((tmp_path / "a" / file).read_text())["settings"]
    kind = {"train": TrainOptions, "compare": CompareOptions, "gradients": GradientsOptions}[arguments[0]]
    names = {field.name for field in fields(kind)} - {"typed", "quiet", "as_json", "resume", "runs"}
    if kind is TrainOptions:
        names -= {*OF_IMAGES, "hidden"} if "iris" in arguments else set(OF_TABLES)
    assert set(settings) == names
    assert (settings["seed"], settings["run"], settings["device"]) == (5, "a", str(resolve_device("auto")))
    assert settings.get("hidden") in (None, [16], [8])


@pytest.mark.parametrize("command", [["train"], ["compare", "--guides", "diagonal"]])
def test_quiet_shows_no_progress_in_a_terminal(run, monkeypatch, command):
    monkeypatch.setenv("FORCE_COLOR", "1")  # standard error counts as a terminal
    monkeypatch.setenv("TERM", "xterm")
    assert "diagonal" in run(*command, *QUICK, "--json")[2]
    assert run(*command, *QUICK, "--json", "--quiet")[2] == ""


def test_without_a_command_there_is_help(run):
    status, out, _ = run()
    assert status == 0
    assert "compare" in out


def test_the_checkpoint_of_another_run_is_refused(run, tmp_path):
    assert run("train", *QUICK, "--checkpoint", "kept.pt", "--json")[0] == 0
    status, _, err = run("train", *QUICK, "--checkpoint", "kept.pt", "--lr", "0.01", "--json")
    assert status == 2
    assert "whose optimizer's lr is 0.001; here it is 0.01: name another file" in err


def test_a_mixture_is_trained_without_a_warning(run):
    arguments = ["--data", "iris", "--model", "gaussian-mixture", "--starts", 2]
    status, _, err = run("train", *arguments)
    assert status == 0
    assert "uncaptured" not in err


@pytest.mark.parametrize(("name", "message"), [("torch", "Python has already"), ("test_x", "such as my_x")])
def test_a_name_that_would_hide_a_module_is_refused(run, tmp_path, name, message):
    status, _, err = run("new", name)
    assert status == 2
    assert message in err
    assert not list(tmp_path.iterdir())
