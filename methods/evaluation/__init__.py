"""Metrics of scores and labels, and diagnostics of training. Nothing here changes a trained state."""
