"""Training: configuration, recipes, the training loop, cached features, `fit`. Nothing here depends on one method."""
