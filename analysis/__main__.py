"""`python -m analysis`."""

import gc
import sys

from analysis.cli import main

code = main()
# An interpreter that ends looks through all objects for waste: a second, after a table of a thousand runs.
gc.freeze()
sys.exit(code)
