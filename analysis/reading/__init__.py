"""Reads a sweep from MLflow as a frame with one row per trial. No table or figure is made here."""
