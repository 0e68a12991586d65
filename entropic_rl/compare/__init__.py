"""Comparisons: a grid of coefficients x seeds trained as one batch, and what it says."""
