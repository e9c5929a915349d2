"""Tables of a sweep: layout, cells, captions, comparisons, and their formats. Nothing here asks MLflow."""
