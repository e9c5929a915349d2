"""Running a sweep: the driver, the queue, trials on Ray, progress and retention. No loss or metric is computed here."""
