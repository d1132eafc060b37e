"""log p(x): exact where it is known, by quadrature, by annealing, and sandwiched on simulated data."""

from ppl_vae.evidence.annealing import annealed
from ppl_vae.evidence.bidirectional import sandwich, simulate
from ppl_vae.evidence.exact import exact_evidence
from ppl_vae.evidence.grid import quadrature
from ppl_vae.evidence.path import SCHEDULES, temperatures

__all__ = ["SCHEDULES", "annealed", "exact_evidence", "quadrature", "sandwich", "simulate", "temperatures"]
