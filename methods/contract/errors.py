"""What a person can mend: bad input, told in one line and without a traceback.

Imports nothing, so that a command line can know these errors before what raises them is imported.
"""

from __future__ import annotations


class UserError(ValueError):
    """What was wrong, where, what was given, what is allowed. A command that ends with one has its `exit_code`."""

    exit_code = 2
