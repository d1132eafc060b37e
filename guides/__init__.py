"""The guides: each is a family of q times a source of its parameters, or belongs to one model.

The families lie in families.py, discrete_families.py and flows.py, the sources in amortized.py, per_datapoint.py and
semi_amortized.py. A model makes the guides of from_model.py of itself; the one of two_layer.py belongs to one model.

``FAMILIES`` holds the families by the command line's names, ``AUTOGUIDES`` those guides of Pyro's that it makes of any
model (automatic.py).
"""

from ppl_vae.guides.amortized import Amortized
from ppl_vae.guides.automatic import AUTOGUIDES
from ppl_vae.guides.discrete_families import Bernoulli, Categorical, OneHot
from ppl_vae.guides.families import (
    Delta,
    Diagonal,
    Family,
    FixedScale,
    Full,
    LowRank,
    Mixture,
    Unit,
)
from ppl_vae.guides.flows import IAF, MAF, NSF
from ppl_vae.guides.from_model import ExactPosterior, Prior
from ppl_vae.guides.per_datapoint import PerDatapoint
from ppl_vae.guides.semi_amortized import SemiAmortized
from ppl_vae.guides.two_layer import TwoLayer

FAMILIES: dict[str, type[Family]] = {
    "delta": Delta,
    "unit": Unit,
    "fixed-scale": FixedScale,
    "diagonal": Diagonal,
    "low-rank": LowRank,
    "full": Full,
    "mixture": Mixture,
    "iaf": IAF,
    "maf": MAF,
    "nsf": NSF,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "one-hot": OneHot,
}

__all__ = [
    "AUTOGUIDES",
    "FAMILIES",
    "IAF",
    "MAF",
    "NSF",
    "Amortized",
    "Bernoulli",
    "Categorical",
    "Delta",
    "Diagonal",
    "ExactPosterior",
    "Family",
    "FixedScale",
    "Full",
    "LowRank",
    "Mixture",
    "OneHot",
    "PerDatapoint",
    "Prior",
    "SemiAmortized",
    "TwoLayer",
    "Unit",
]
