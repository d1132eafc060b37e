"""Figures, one module for each kind of result; each function returns a new matplotlib figure."""
