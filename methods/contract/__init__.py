"""What a method promises: Method, Objective, Recipe, Batch, settings, tasks, randomness and exact schedules.

Nothing here trains, reads files, or depends on one method. This file must have no imports: they would enter every key.
"""
