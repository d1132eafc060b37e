"""The guides: a family of q (families.py, flows.py) times the source of its parameters (amortized.py, per_datapoint.py,
semi_amortized.py); and guides that a model makes of itself (from_model.py) or that belong to one (two_layer.py).

``FAMILIES`` holds the families by the command line's names.
"""

from ppl_vae.guides.amortized import Amortized
from ppl_vae.guides.families import (
    Bernoulli,
    Categorical,
    Delta,
    Diagonal,
    Family,
    FixedScale,
    Full,
    LowRank,
    Mixture,
    OneHot,
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
