"""log p(x): exact where it is known, by quadrature, by annealing, and sandwiched on simulated data."""

from ppl_vae.evidence.annealed import SCHEDULES, annealed, sandwich, simulate, temperatures
from ppl_vae.evidence.exact import exact, quadrature

__all__ = ["SCHEDULES", "annealed", "exact", "quadrature", "sandwich", "simulate", "temperatures"]
