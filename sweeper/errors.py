"""How a command ends that cannot do what it was asked for: the exit codes, and the errors that have one.

Errors stand beside what raises them; here is what they have in common. Nothing heavy is imported.
"""

from __future__ import annotations

from methods.contract.errors import UserError

__all__ = ["BAD_INPUT", "STOPPED", "StoppedError", "UserError"]

BAD_INPUT = UserError.exit_code
STOPPED = 3


class StoppedError(UserError):
    """A run that ended early and can be gone on with: another driver has the sweep, or what it writes to has gone."""

    exit_code = STOPPED
