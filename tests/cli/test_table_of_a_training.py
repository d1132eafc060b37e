"""The table that ``train`` prints."""

import xarray as xr

from ppl_vae import History
from ppl_vae.cli.image_runs import _table
from ppl_vae.cli.options import TrainOptions


def test_a_log_evidence_that_is_not_known_is_left_out():
    curve = {"iwelbo": (("K", "data"), [[-2.0]]), "iwelbo_se": (("K", "data"), [[0.1]]), "khat": ("data", [0.1])}
    measured = xr.Dataset(curve, {"K": [1]}, {"khat_threshold": 0.7})
    history = History(size=1, elbo=[-2.0], seconds=[1.0])
    result = {
        "is_bound": True,
        "test_elbo": -2.0,
        "test_elbo_se": 0.1,
        "seconds_per_epoch": 1.0,
        "peak_memory_gib": 1.0,
    }
    for evidence, shown in ((None, False), (-1.0, True)):
        table = _table(TrainOptions(), history, measured, result | {"test_log_evidence": evidence})
        assert ("log p(x), exact" in list(table.columns[0].cells)) == shown
