"""The guides: a family of q (families.py) times the source of its parameters (amortized.py, ...).

``FAMILIES`` holds the families by the command line's names.
"""

from ppl_vae.guides.amortized import Amortized
from ppl_vae.guides.exact import Exact
from ppl_vae.guides.families import Delta, Diagonal, Family, Flow, Full

FAMILIES = {"delta": Delta, "diagonal": Diagonal, "full": Full, "flow": Flow}

__all__ = ["FAMILIES", "Amortized", "Delta", "Diagonal", "Exact", "Family", "Flow", "Full"]
