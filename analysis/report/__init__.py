"""The report: one HTML page, or one LaTeX document, of all sweeps of a record."""
