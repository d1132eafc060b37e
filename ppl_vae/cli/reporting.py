"""The report of a run that has just ended: written behind it, and never at its cost."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppl_vae.errors import InputError


def report(folder: Path, evaluation: Mapping[str, Any] | None = None) -> Path | None:
    """Writes the report of a finished run; where that fails, says so in one line and returns None.

    Args:
        folder: of the run.
        evaluation: what ``evaluate`` has measured of it, to be kept and shown beside the run's own figures.
    """
    from ppl_vae.runs.page import keep_evaluation, write_page

    try:
        if evaluation is not None:
            keep_evaluation(folder, evaluation)
        return write_page(folder)
    except Exception as error:  # whatever it is, the run is finished and its figures are told
        known = isinstance(error, InputError)
        reason = " ".join(str(error if known else f"{type(error).__name__}: {error}").split())
        print(f"ppl-vae: the report was not written ({reason}); `ppl-vae report {folder}` tries again", file=sys.stderr)
        return None
