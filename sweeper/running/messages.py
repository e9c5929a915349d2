"""What goes to a worker, `Job`, and what comes back, `Report`; and how both become text.

They are sent as one text, because Ray Tune keeps statistics and a copy of every number in a result.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..spaces.space import Select


@dataclass(frozen=True)
class Job:
    """One trial to run.

    `values` are the dotted settings, `keys` key[0] … key[E], `keep` the epochs whose state other trials start from.
    `select` is the space's rule for the reported epoch; `stoppable`: an early-stopping rule may end the trial. `store`
    is a folder; `epoch_limit` the seconds after which an epoch counts as hanging, None: never.
    """

    trial: str
    values: Mapping[str, Any]
    keys: Sequence[str]
    keep: Sequence[int]
    select: Select
    stoppable: bool
    store: str
    epoch_limit: float | None = None

    def text(self) -> str:
        return json.dumps(vars(self) | {"select": vars(self.select)})

    @classmethod
    def read(cls, text: str) -> Job:
        fields = json.loads(text)
        return cls(**fields | {"select": Select(**fields["select"])})


@dataclass(frozen=True)
class Failure:
    """Why a trial failed, in one line, and the traceback."""

    reason: str
    traceback: str = ""


@dataclass(frozen=True)
class Report:
    """The result of one step of a trial.

    `epochs` has metrics by epoch; those of the trial's last epoch include `train/seconds`, of all epochs together.
    `trained`: the epochs were trained now, not read from the store. `written` is in bytes by kind of record, `notes`
    are for people, `artifacts` are files by name. `gpu_memory` is the trial's peak memory on a GPU, in bytes. `seconds`
    is the duration of the step. `refused`: the trial has other keys here, so it would give another result.
    """

    epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    trained: bool = False
    done: bool = False
    written: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    gpu_memory: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    refused: bool = False

    def text(self) -> str:
        artifacts = {name: base64.b64encode(content).decode() for name, content in self.artifacts.items()}
        failure = self.failure and vars(self.failure)
        return json.dumps(vars(self) | {"artifacts": artifacts, "failure": failure})

    @classmethod
    def read(cls, text: str) -> Report:
        fields = json.loads(text)
        return cls(
            **fields
            | {
                "epochs": {int(epoch): metrics for epoch, metrics in fields["epochs"].items()},
                "artifacts": {name: base64.b64decode(content) for name, content in fields["artifacts"].items()},
                "failure": fields["failure"] and Failure(**fields["failure"]),
            }
        )
