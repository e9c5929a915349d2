"""Figures of a sweep: curves, Pareto fronts, importance, and sheets of images. Statistics are not computed here."""
