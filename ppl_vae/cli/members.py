"""``ppl-vae list``: the names that the other commands take."""

import json

from rich import box
from rich.table import Table

from ppl_vae.cli.catalogue import MEMBERS
from ppl_vae.cli.options import ListOptions
from ppl_vae.cli.terminal import show


def list_members(options: ListOptions) -> None:
    """List the models, guides, gradient estimators and data sets by the names that the other commands take.

    Example: ppl-vae list --json
    """
    if options.as_json:
        print(json.dumps(MEMBERS))
        return
    for kind, lines in MEMBERS.items():
        table = Table(kind, "", box=box.SIMPLE_HEAD)
        for name, line in lines.items():
            table.add_row(name, line)
        show(table)
