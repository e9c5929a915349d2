"""A trial's model as files: the weights of its selected epoch, and the configuration that made them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mlflow.entities import Run

from analysis.record.names import KEY, SELECTED, SPACE, SWEEP, TRIAL, VARIANT, without_histories
from methods.cache.files import replacing
from methods.cache.store import Store, default_folder
from methods.contract.settings import SettingError
from methods.training.config import Config, resolve
from methods.training.fit import Training
from methods.training.loop import State
from methods.training.platforms import identity

from ..planning.stored import STATE
from ..recording.runs import UnknownTrialError, find_run
from ..spaces.trial import Trial
from ..spaces.yaml_file import Where, parse_value


def export(
    trial: str, folder: Path | None = None, uri: str | None = None, say: Callable[[str], None] = lambda text: None
) -> Path:
    """Write `weights.pt` and `config.json` of a trial, by its id or that of its run in MLflow; returns their folder,
    `./exports/TRIAL` unless given.

    The weights are tensors by `MODULE/NAME`: `trunk` is the frozen blocks of the backbone, `backbone` the trained ones.
    If the store no longer has the state, it is trained again from the nearest stored one, and `say` gets a message.

    Raises `UnknownTrialError` if MLflow has no such finished trial, or if this code has other settings.
    """
    run = find_run(trial, uri)
    tags, epoch = run.data.tags, round(run.data.metrics[SELECTED])
    config = _config(run)
    state = _state(config, epoch, say)
    target = folder or Path("exports") / tags[TRIAL]
    content = io.BytesIO()
    torch.save(Training(config, default_folder()).weights(state), content)
    described = {
        "space": tags[SPACE],
        "sweep": tags[SWEEP],
        "variant": tags[VARIANT],
        "trial": tags[TRIAL],
        "run": run.info.run_id,
        "epoch": epoch,
        "key": config.keys()[epoch],
        "config": config.flat(),
        "metrics": without_histories(run.data.metrics),
        "platform": identity(config.train.device),
    }
    with replacing(target / "weights.pt") as file:
        file.write(content.getbuffer())
    with replacing(target / "config.json") as file:
        file.write(json.dumps(described, indent=1, ensure_ascii=False).encode())
    return target


def _config(run: Run) -> Config:
    """The run's configuration, read from its params. Checks that today's code still makes the same trial of them."""
    where = Where(f"run {run.info.run_id}")
    values: Mapping[str, Any] = {name: parse_value(text, where).plain() for name, text in run.data.params.items()}
    tags = run.data.tags
    try:
        config = resolve(values)
    except SettingError as error:
        raise UnknownTrialError(f"{where}: recorded by other code than this: {error}") from None
    if Trial(tags[VARIANT], config, {}).id != tags[TRIAL]:
        raise UnknownTrialError(f"{where}: recorded by other code than this, which has other settings")
    if config.keys()[-1] != tags[KEY]:
        raise UnknownTrialError(f"{where}: trained by other code or on another platform than this; run its space again")
    return config


def _state(config: Config, epoch: int, say: Callable[[str], None]) -> State:
    keys, store = config.keys(), Store(default_folder())
    training = Training(config, default_folder())
    for start in range(epoch, 0, -1):
        state = store.read_tensors(keys[start], STATE)
        if state is not None:
            break
    else:
        start, state = 0, training.initial_state()
    if start < epoch:
        say(f"the store has no state of epoch {epoch}: training epochs {start + 1} to {epoch} again")
    for missing in range(start + 1, epoch + 1):
        state, _ = training.train(state, missing)
    return state
