"""The commands of `python -m sweeper` except `run` and `plan`. Nothing else imports them, only the command line."""
