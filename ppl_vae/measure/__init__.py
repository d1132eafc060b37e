"""How tight a bound is, and why: bounds, information, refinement, gaps, comparisons and gradients."""
