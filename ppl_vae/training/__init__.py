"""How a pair is trained: the loop, and what it prepares, captures, divides among processes and saves."""
