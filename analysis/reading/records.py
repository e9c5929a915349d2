"""What a sweep left in MLflow, as a tidy frame with one row per trial.

The parent run says which trials were expected (`space.json`); its children are the runs of those that began. A trial
without a run is a row with status MISSING, so that no average can leave it out unseen. `analysis.reading.runs` does the
reading.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from analysis.names import Names
from analysis.reading import comparability, runs
from analysis.reading.runs import MlflowClient, RecordError, Run, answering, resolve
from analysis.record import names
from analysis.record.client import where

SMOKE = "smoke"
# What made a run, each with its tag
VERSIONS = {"key": names.KEY, "code": names.CODE, "platform": names.PLATFORM, "commit": names.COMMIT}


@dataclass(frozen=True)
class Record:
    """One sweep.

    `trials` has the columns trial, variant, seed, one per axis (a variant without the axis has no value there), status,
    run_id, failure, seconds (from the run's start to its end), and one per metric: the single point at the selected
    epoch, as logged (measures are in percent). Status is MLflow's (FINISHED, FAILED, RUNNING, KILLED, SCHEDULED) or
    MISSING. `params` has a row per trial with a run, indexed by trial, and every setting as text; what was logged as
    "null" has no value. `versions`, in the same way, has what made the run: `key` (its last state key), `code`,
    `platform` and `commit`, where they were recorded. `mixed` has the differences between its runs that were
    allowed, in words.
    """

    space: dict[str, Any]
    sweep: str
    axes: tuple[str, ...]
    trials: pd.DataFrame
    params: pd.DataFrame
    versions: pd.DataFrame
    client: MlflowClient = field(repr=False)
    mixed: tuple[str, ...] = ()

    @functools.cached_property
    def names(self) -> Names:
        """How its settings and metrics are printed."""
        return Names.of(self.space)


def load(
    name: str,
    *,
    tracking_uri: str | None = None,
    sweep: str | None = None,
    profile: str | None = None,
    allow: Collection[str] = (),
) -> Record:
    """Read the newest sweep of space `name`, of `profile` if one is named, or the one whose hash starts with `sweep`.
    With neither, a sweep of the profile smoke is read only if there is no other, because its numbers mean nothing.

    If no sweep's hash starts with `sweep`, it may be the start of a commit. Then the sweep is read as it was after that
    commit last ran it, with runs that later code has superseded. Sweeps are ordered by the start of their parent run;
    resuming a sweep does not change it. There are two queries (three for a commit), for any number of trials. Raises
    `RecordError` if there is no such record, or if its runs cannot be in one table, because they differ in a setting or
    version that is not in `allow` (see `comparability`).
    """
    uri = resolve(tracking_uri)
    with answering(uri):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise RecordError(_unknown(name, (e.name for e in client.search_experiments()), uri))
        id = experiment.experiment_id
        parents = _of_profile(runs.sweeps(client, [id]), profile, sweep)
        of_commit = _of_commit(client, id, parents, sweep)
        parent = _pick(parents, name, of_commit[0].tags[names.SWEEP] if of_commit else sweep, uri, profile)
        space = _space(client, parent)
        sweep = parent.tags[names.SWEEP]
        of_sweep = _of_then(client, id, sweep, of_commit) if of_commit else runs.trials(client, id, sweep)
        children = _one_run_per_trial(of_sweep)

    axes = tuple(dict.fromkeys([*space.get("axes", {}), *(axis for t in space["trials"] for axis in t["axes"])]))
    trials = pd.DataFrame([_row(expected, axes, children.get(expected["trial"])) for expected in space["trials"]])
    in_order = [expected["trial"] for expected in space["trials"] if expected["trial"] in children]
    params = {trial: children[trial].params for trial in in_order}
    params = pd.DataFrame.from_dict(params, orient="index", dtype=object).replace(names.NULL, None)
    made_by = {t: {v: children[t].tags.get(tag) for v, tag in VERSIONS.items()} for t in in_order}
    versions = pd.DataFrame.from_dict(made_by, orient="index", columns=list(VERSIONS))
    mixed = comparability.differences(space, trials[["trial", "variant", *axes]], params, versions)
    _refuse_mixed(name, mixed, allow, [*params, *comparability.VERSIONS])
    return Record(space, sweep, axes, trials, params, versions, client, tuple(mixed.values()))


@functools.lru_cache(maxsize=10_000)
def logged_value(text: Any) -> Any:
    """The value of a param: `True` or `False`, else the value if the text is JSON, else the text itself."""
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except (TypeError, ValueError):  # not JSON: a name, or no value
        return text


def histories(record: Record, metric: str, trials: pd.DataFrame | None = None) -> pd.DataFrame:
    """The history of `metric` (`val/map`, say) in every finished one of `trials` (default: all): trial, variant, seed,
    the axes, epoch (from 1), value. `LOSS_WINDOWS` are several histories as one: the epoch of a window is the place of
    its end, as 2.25 for the first of four in epoch 3."""
    if metric.removeprefix(names.EPOCH) == names.LOSS_WINDOWS:
        return _windows(record, trials)
    finished = (record.trials if trials is None else trials).query("status == 'FINISHED'")
    identity = finished[["trial", "variant", "seed", *record.axes, "run_id"]]
    points = runs.points(record.client, finished["run_id"].to_list(), names.EPOCH + metric.removeprefix(names.EPOCH))
    frame = pd.DataFrame(points, columns=["run_id", "epoch", "value"]).sort_values("epoch", kind="stable")
    return identity.merge(frame, on="run_id").drop(columns="run_id")


def _windows(record: Record, trials: pd.DataFrame | None) -> pd.DataFrame:
    each = names.LOSS_WINDOWS.removesuffix("s")
    frames = [histories(record, f"{each}_1", trials)]
    while len(frames[-1]):
        frames.append(histories(record, f"{each}_{len(frames) + 1}", trials))
    windows = len(frames) - 1  # the last one is empty
    places = [frame.assign(epoch=frame["epoch"] - 1 + n / windows) for n, frame in enumerate(frames[:-1], start=1)]
    return pd.concat(places or frames, ignore_index=True).sort_values("epoch", kind="stable")


def parse(text: str) -> dict[str, Any]:
    """`NAME[@HASH][:PROFILE]` as arguments of `load`. Raises `RecordError` for anything else."""
    found = re.fullmatch(r"(?P<name>[^@:]+)(@(?P<sweep>\w+))?(:(?P<profile>[\w-]+))?", text)
    if found is None:
        raise RecordError(
            f"{text!r} is no sweep: give NAME, NAME@HASH (a sweep or a commit), NAME:PROFILE or NAME@HASH:PROFILE"
        )
    return found.groupdict()


def _unknown(name: str, recorded: Iterable[str], uri: str) -> str:
    known = sorted(set(recorded) - {"Default"})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    hint = f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(known) or 'none at all'}"
    return f"no sweep of {name!r} is recorded at {uri}; {hint}"


def _of_profile(parents: list[Run], profile: str | None, sweep: str | None) -> list[Run]:
    # Compared here and not in the query, as a name may have quotes.
    if profile:
        return [run for run in parents if run.tags.get(names.PROFILE) == profile]
    others = [run for run in parents if run.tags.get(names.PROFILE) != SMOKE]
    return parents if sweep else others or parents


def _pick(parents: list[Run], name: str, prefix: str | None, uri: str, profile: str | None) -> Run:
    newest: dict[str, Run] = {}
    for run in parents:
        newest.setdefault(run.tags[names.SWEEP], run)
    if not newest:
        of_profile, option = (f" with profile {profile}", f" --profile {profile}") if profile else ("", "")
        command = f"python -m sweeper run search_spaces/{name}.yaml{option}"
        raise RecordError(f"no sweep of {name!r}{of_profile} is recorded at {uri}; run one: {command}")
    matching = [sweep for sweep in newest if sweep.startswith(prefix or "")]
    if not matching or (prefix and len(matching) > 1):
        fault = "several sweeps" if matching else "no sweep"
        listed = ", ".join(matching or newest)
        raise RecordError(f"{fault} of {name!r} has a hash that starts with {prefix!r}; newest first: {listed}")
    return newest[matching[0]]


def _of_commit(client: MlflowClient, experiment: str, parents: list[Run], prefix: str | None) -> list[Run]:
    """Runs of the commit that starts with `prefix`, in the sweep that it ran last. None if a sweep's hash starts so."""
    sweeps = [run.tags[names.SWEEP] for run in parents]
    if not prefix or not prefix.isalnum() or any(sweep.startswith(prefix) for sweep in sweeps):
        return []
    of_commit = runs.search(client, [experiment], f"tags.`{names.COMMIT}` LIKE '{prefix}%'")
    last = next((run.tags[names.SWEEP] for run in of_commit if run.tags[names.SWEEP] in sweeps), None)
    return [run for run in of_commit if run.tags[names.SWEEP] == last]


def _of_then(client: MlflowClient, experiment: str, sweep: str, of_commit: list[Run]) -> list[Run]:
    """The trials' runs of a sweep as they were after a commit last ran it, with those superseded since."""
    wanted = f"tags.`{names.KIND}` != '{names.OF_SWEEP}' and {where({names.SWEEP: sweep})}"
    until = max(run.started for run in of_commit)
    return [run for run in runs.search(client, [experiment], wanted) if run.started <= until]


def _space(client: MlflowClient, parent: Run) -> dict[str, Any]:
    sweep = f"sweep {parent.tags[names.SWEEP]} of {parent.tags[names.SPACE]!r}"
    text = runs.artifact(client, parent.run_id, names.SPACE_FILE)
    if text is None:
        place = client.get_run(parent.run_id).info.artifact_uri
        why = "it was killed as it began, or its files are not within reach here"
        raise RecordError(f"{sweep} has no {names.SPACE_FILE} at {place}: {why}")
    space = json.loads(text)
    if not space["trials"]:
        raise RecordError(f"{sweep} lists no trials in its {names.SPACE_FILE}")
    return space


def _one_run_per_trial(newest_first: list[Run]) -> dict[str, Run]:
    """A trial that was run again after a failure has several runs: the newest finished one counts, else the newest."""
    chosen: dict[str, Run] = {}
    for run in sorted(newest_first, key=lambda run: run.status != "FINISHED"):
        chosen.setdefault(run.tags[names.TRIAL], run)
    return chosen


def _refuse_mixed(name: str, mixed: Mapping[str, str], allow: Collection[str], known: Collection[str]) -> None:
    for key in allow:
        if key not in known:
            near = ", ".join(difflib.get_close_matches(key, known, n=3, cutoff=0.4)) or "code, platform"
            raise RecordError(f"runs of {name!r} have no setting {key!r} that could differ; the nearest are {near}")
    refused = {key: text for key, text in mixed.items() if key not in allow}
    if refused:
        raise RecordError(
            f"runs of {name!r} differ in what is neither a row, a column nor a seed: {'; '.join(refused.values())}. "
            f"To have them in one table all the same: {' '.join(f'--allow {key}' for key in refused)}"
        )


def _row(expected: dict[str, Any], axes: tuple[str, ...], run: Run | None) -> dict[str, Any]:
    identity = {name: expected[name] for name in ("trial", "variant", "seed")}
    identity |= {axis: expected["axes"].get(axis) for axis in axes}
    if run is None:
        return identity | {"status": "MISSING", "run_id": None, "failure": None, "seconds": None}
    seconds = ((run.ended or run.started) - run.started) / 1000
    outcome = {"status": run.status, "run_id": run.run_id, "failure": run.tags.get(names.FAILURE)}
    return identity | outcome | {"seconds": seconds} | names.without_histories(run.metrics)
