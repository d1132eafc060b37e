"""``ppl-vae list``: the names that the other commands take."""

import json
from typing import Any

from rich import box
from rich.table import Table

from ppl_vae.cli import report
from ppl_vae.cli.options import ListOptions
from ppl_vae.cli.zoo import ALIASES, AUTOGUIDE_LINES, OF_A_MODEL, SHARED_MODELS
from ppl_vae.data.images import DATASETS
from ppl_vae.data.tables import TABLES
from ppl_vae.estimators import ESTIMATORS
from ppl_vae.guides import FAMILIES
from ppl_vae.models import MODELS


def list_members(options: ListOptions) -> None:
    """List the models, guides, gradient estimators and data sets by the names that the other commands take.

    Example: ppl-vae list --json
    """
    members: dict[str, dict[str, str]] = {
        "models": {
            **{name: _first_line(member) for name, member in MODELS.items()},
            **{name: entry.about for name, entry in SHARED_MODELS.items()},
        },
        "guides": {
            **{name: _first_line(member) for name, member in [*FAMILIES.items(), *OF_A_MODEL.items()]},
            **{alias: f"The same as {name}." for alias, name in ALIASES.items()},
            **AUTOGUIDE_LINES,
        },
        "estimators": {name: entry.about for name, entry in ESTIMATORS.items()},
        "data": {name: _first_line(member) for name, member in (DATASETS | TABLES).items()},
    }
    if options.as_json:
        print(json.dumps(members))
        return
    for kind, lines in members.items():
        table = Table(kind, "", box=box.SIMPLE_HEAD)
        for name, line in lines.items():
            table.add_row(name, line)
        report.show(table)


def _first_line(member: Any) -> str:
    return (member.__doc__ or "").strip().splitlines()[0]
