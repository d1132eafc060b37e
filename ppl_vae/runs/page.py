"""The report of a run: one file that shows all of it, and asks no network for anything."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ppl_vae.errors import InputError
from ppl_vae.pairs.restore import random_state_kept, seeded
from ppl_vae.runs.decoder_export import NotExportable
from ppl_vae.runs.folder import read_record
from ppl_vae.runs.opened import Run, explained, open_run
from ppl_vae.runs.page_images import data_uri, explorer, labels_of, single_images
from ppl_vae.runs.page_readings import reading
from ppl_vae.runs.page_tables import tables
from ppl_vae.runs.page_words import answer, guide_of, listed
from ppl_vae.runs.plain_json import write_json
from ppl_vae.runs.run_data import test_data
from ppl_vae.training.writing import replaced

PAGE, EVALUATION = "report.html", "evaluation.json"
_TITLES = {
    "bounds": "How the bound tightens with K",
    "gaps": "The gap of each guide",
    "khat": "Which importance weights can be trusted",
    "rate-distortion": "Rate and distortion",
    "training": "The training",
    "reconstructions": "Reconstructions",
    "samples": "Drawn from the model",
    "manifold": "The plane of the latents",
    "density": "The density over the table",
    "variance-epoch": "Variance along the training",
    "variance-latents": "Variance by the number of latents",
    "variance-particles": "Variance by the number of particles",
}
_NO_SETTING = ("run", "runs")
_OPTIONS = {"runs": "--from"}  # the others are called as their fields


def write_page(folder: Path, to: Path | None = None, data_root: Path | None = None) -> Path:
    """Writes the report of a finished run, and returns where it is.

    Args:
        folder: of the run.
        to: the file to write, or a folder for it; ``report.html`` in the run's folder where None.
        data_root: the folder that the data are in, where it is no longer that of the run.

    Raises:
        InputError: for a folder that holds no finished run of this version, or a place that can't be written.

    Examples:
        >>> from pathlib import Path
        >>> from ppl_vae import InputError
        >>> from ppl_vae.runs.page import write_page
        >>> try:
        ...     write_page(Path("none"))
        ... except InputError as error:
        ...     print(error)
        none is no folder: give the folder of a run of this version of ppl-vae
    """
    run, record = open_run(folder), read_record(folder)
    with random_state_kept(), seeded(0), explained(folder):
        content = _content(run, record, data_root)
    environment = Environment(
        loader=PackageLoader("ppl_vae.runs", "page_template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("report.html.j2").render(content)
    place = folder / PAGE if to is None else to / PAGE if to.is_dir() else to
    with replaced(place) as new:
        new.write_text(text, encoding="utf-8", errors="backslashreplace")  # a folder's name need not be UTF-8
    return place


def keep_evaluation(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes a later measurement of a run into its folder, for its report."""
    write_json(folder / EVALUATION, {"of": read_record(folder)["digest"], "results": results})


def _content(run: Run, record: Mapping[str, Any], data_root: Path | None) -> dict[str, Any]:
    """What the template takes."""
    figures = _figures(run)
    images, plane, missing = _of_images(run, data_root)
    return {
        "title": _title(run),
        "answer": answer(run),
        "tables": tables(run),
        "advice": _advice(run),
        "figures": figures,
        "images": images,
        "explorer": plane,
        "missing": missing,
        "evaluation": _evaluation(run, record),
        "command": _command(record),
        "again": f"ppl-vae reproduce {shlex.quote(str(run.folder))}",
        "settings": _settings(run, record),
        "provenance": _provenance(run),
    }


def _title(run: Run) -> str:
    settings = run.settings
    on = f" on {run.data['name']}" if run.kind != "shared" else ""
    what = settings.get("model", "earlier runs")
    if run.command == "compare":
        return f"{what}{on}: {len(run.results.get('guides', []))} guides compared"
    if run.command == "gradients":
        return f"{what}{on}: gradient estimators compared"
    guide = settings.get("guide")
    return f"{what}{on}, trained" + (f" with the {guide} guide" if guide else "")


def _advice(run: Run) -> list[str]:
    if "advice" in run.results:
        return list(run.results["advice"])
    return [f"{name}: {line}" for name, history in run.histories.items() for line in history.advice]


def _figures(run: Run) -> list[dict[str, str]]:
    """The run's figures in the order of the titles, those of no title last."""
    order = list(_TITLES)
    found = {path.stem: path for path in sorted(run.folder.glob("*.png")) if path.is_file()}
    known = {name: next((key for key in order if name == key or name.startswith(f"{key}-")), "") for name in found}
    names = sorted(found, key=lambda name: (order.index(known[name]) if known[name] else len(order), name))
    figures = []
    for name in names:
        title, of = _TITLES.get(known[name], name), name[len(known[name]) + 1 :] if known[name] else ""
        figures.append(
            {
                "name": name,
                "title": f"{title}: {guide_of(run, of)}" if of else title,
                "source": data_uri(found[name].read_bytes()),
                "reading": reading(run, name),
            }
        )
    return figures


def _of_images(run: Run, data_root: Path | None) -> tuple[list[dict[str, Any]], dict[str, Any] | None, str]:
    """The single images, the latent plane, and a sentence where one of them can't be shown."""
    if run.kind != "images" or not run.pairs:
        earlier = [str(path) for path in run.settings.get("runs") or []]
        with_images = "; their own reports show images" if run.kind == "images" else ""
        return [], None, f"The pairs are those of {listed(earlier)}{with_images}." if earlier else ""
    model = next(iter(run.pairs.values()))[0]
    try:
        data, labels = test_data(run, model, data_root, None), labels_of(run, data_root)
    except InputError as error:
        return [], None, f"The test images can't be shown: {error}."
    images = single_images(run, data, labels)
    try:
        return images, explorer(run, data, labels), ""
    except NotExportable as reason:
        return images, None, f"There is no explorer of the latents here. {reason}"


def _evaluation(run: Run, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """What ``ppl-vae evaluate`` has measured last, unless the run has been trained on since."""
    path = run.folder / EVALUATION
    if not path.is_file():
        return None
    try:
        kept = json.loads(path.read_text())
        if kept["of"] != record["digest"]:
            return None
        results = kept["results"]
        asked = {name: value for name, value in results["settings"].items() if name != "run"}
        return {"tables": tables(run, results), "settings": _shown(asked), "advice": results["advice"]}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # damaged: the run's own figures are there all the same


def _command(record: Mapping[str, Any]) -> str:
    """The command with the options that were typed, but those of the call alone (--run, --quiet, --json)."""
    words = ["ppl-vae", record["command"]]
    options = record["options"]
    for name in options.get("typed", []):
        value, option = options.get(name), _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        else:
            for part in value if isinstance(value, list) else [value]:
                words += [option, str(part)]
    return shlex.join(words)


def _settings(run: Run, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings by name; those that were typed first."""
    typed = record["options"].get("typed", [])
    values = {name: value for name, value in run.settings.items() if name not in _NO_SETTING}
    ordered = sorted(values, key=lambda name: name not in typed)
    return [setting | {"typed": setting["key"] in typed} for setting in _shown({key: values[key] for key in ordered})]


def _shown(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Settings as text, without those that are not set."""
    return [
        {
            "key": name,
            "name": name.replace("_", " "),
            "value": ", ".join(map(str, value)) if isinstance(value, list) else str(value),
        }
        for name, value in values.items()
        if value is not None and value is not False and value not in ("", [])
    ]


def _provenance(run: Run) -> list[tuple[str, str]]:
    """Where the run's figures come from."""
    versions = ", ".join(f"{name} {version}" for name, version in run.made_with["versions"].items() if version)
    data = f"{run.data['name']}, fingerprint {run.data['fingerprint']}"
    lines = [("data", data), ("started", run.made_with["started"]), ("versions", versions)]
    if run.made_with["commit"]:
        lines.append(("commit", run.made_with["commit"]))
    return [*lines, ("machine", run.made_with["machine"]), ("folder", str(run.folder))]
