"""The record of a sweep in MLflow, written by the driver only. Nothing here schedules or trains."""
