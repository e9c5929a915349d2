"""The papers' claims: the kinds of tests, the verdicts, and how they are printed."""
