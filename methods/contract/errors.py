"""The base of all errors of bad input, which a command prints in one line, without a traceback.

This module must import nothing: a command line needs these classes before it imports the modules that raise them.
"""

from __future__ import annotations


class UserError(ValueError):
    """Bad input. The text says what is wrong, where, what was given and what is allowed. A command that ends with this
    error exits with `exit_code`."""

    exit_code = 2
