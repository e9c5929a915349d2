"""The keys and sections of a space file, each declared once: what they take, their defaults, what they are for.

The checks, the JSON schema and the reference follow from the declarations. What no field can see, because it needs the
rows or the trials of a space, is checked by the functions at the end. How the settings of methods are read stands in
`reading`, `layers` and `ablations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from methods.contract.settings import SettingError, Settings, fields, setting
from methods.data.settings import DataSettings
from methods.evaluation.diagnostics import DIAGNOSTICS, DiagnosticSettings
from methods.evaluation.metrics import GROUP_METRICS, GROUPED_REGIMES, METRICS
from methods.networks.settings import NetworkSettings
from methods.training.config import Config, setting_fields
from methods.training.recipes import TrainSettings

from .search import Distribution, Search
from .values import Row, Values, several
from .vocabulary import CLASSES, OBJECTIVES, PICTURES, TABLE_VALUES, Known
from .yaml_file import Located, check_names, unknown

_SEEDS: dict[str, Any] = {
    "minimum": 1,
    "unique": True,
    "min_items": 1,
    "problem": "give a list of different integers from 1, such as [1, 2, 3]; given was {given} (0 was used to choose "
    "defaults and is never reported)",
}
_TEXT = "a text is needed; given was {given}"
Rule = Literal["asha", "median", "none"]


@dataclass(frozen=True)
class Select(Settings):
    """Which epoch a trial reports: the one best on `metric` (the earliest of equals), or the last."""

    metric: str = setting(
        "val/map", "the larger, the better", one_of=tuple(f"val/{name}" for name in METRICS), allowed="a result on val"
    )
    epoch: Literal["best", "last"] = setting("best", "the epoch that is best on the metric, or the last one")

    def choose(self, history: Sequence[Mapping[str, float]]) -> int:
        """The selected epoch, from 1, of the metrics of epochs 1 … E; the last where the metric is NaN everywhere."""
        if self.epoch == "last":
            return len(history)
        values = [metrics[self.metric] for metrics in history]
        best = max((value for value in values if value == value), default=None)
        return len(history) if best is None else values.index(best) + 1


@dataclass(frozen=True)
class Stop(Settings):
    """A rule that ends trials early. `asha` lets one in `reduction` go on after `grace` epochs, after `reduction` times
    as many, and so on. `median` lets those go on that are above the median of the others' means after `grace` epochs.
    """

    rule: Rule = setting(doc="who goes on; none: all do")
    grace: int = setting(1, "epochs that every trial is given", minimum=1)
    reduction: int = setting(3, "of asha: one in so many goes on", minimum=2)
    force: bool = setting(False, "stop trials of a table too, which biases it", result_free=True)


@dataclass(frozen=True, kw_only=True)
class ConfirmSettings(Settings):
    """What is found best is trained again, and only that is reported."""

    top: int = setting(
        None, "so many of the best of each variant; left out: 1, or of several objectives the whole front", minimum=1
    )
    seeds: tuple[int, ...] = setting(doc="seeds that the search does not have", **_SEEDS)


@dataclass(frozen=True)
class SearchSettings(Settings):
    """A search draws the points of the axes, which are distributions then, instead of crossing them."""

    algorithm: Literal["random", "tpe"] = setting("tpe", "at random, or by a tree-structured Parzen estimator")
    trials: int = setting(20, "suggestions for each variant", minimum=1)
    lag: int = setting(4, "a suggestion sees the results of those that are so many before it", minimum=1)
    startup: int = setting(10, "first suggestions of tpe that are random", minimum=1)
    objectives: dict[str, Literal["max", "min"]] = setting(
        None,
        "results with max or min, where they are several; left out: the metric of `select`",
        one_of=OBJECTIVES,
        noun="result",
        min_items=2,
        allowed="a mapping of results to max | min",
        problem="give several, such as {val/map: max, train/seconds: min}; one is `select`",
    )
    confirm: ConfirmSettings = setting(None, "what is best is trained again under other seeds")


@dataclass(frozen=True)
class TableSettings(Settings):
    """The table of a space."""

    rows: str = setting("variant", "a row for each variant, or for each metric", one_of=("variant", "metric"))
    columns: Literal["epoch"] | str | tuple[str, ...] | None = setting(
        None,
        "a column for each value of these; null: one column; epoch: it is drawn as a figure",
        one_of=Known.columns,
        unique=True,
        min_items=1,
        allowed="null | epoch | metric | a setting, or a list of different ones",
    )
    value: str | tuple[str, ...] = setting(
        "test/map",
        "what its cells hold; several metrics need `columns: metric`",
        one_of=TABLE_VALUES,
        unique=True,
        min_items=1,
        allowed="a result, or a list of different ones",
    )
    reference: str | tuple[str, ...] = setting(
        (), "rows that the others are set apart from", one_of=Known.variants, noun="variant", allowed="variants"
    )
    average: str = setting(None, "a setting whose values are averaged over", one_of=Known.settings, allowed="a setting")


@dataclass(frozen=True, kw_only=True)
class CurveSettings(Settings):
    """Curves over the epochs."""

    x: Literal["epoch"] = setting("epoch", "the epochs")
    y: str | tuple[str, ...] = setting(
        doc="what is drawn, one or several",
        one_of=Known.curves,
        unique=True,
        min_items=1,
        allowed="train/loss, a metric that is kept for every epoch, or what a method reports",
    )


@dataclass(frozen=True)
class PointSettings(Settings):
    """A point for each trial."""

    x: str = setting(doc="a result", one_of=TABLE_VALUES, allowed="a result")
    y: str = setting(doc="another one", one_of=TABLE_VALUES, allowed="a result")


@dataclass(frozen=True)
class PictureSettings(Settings):
    """Pictures that trials have left."""

    pictures: str = setting(doc="file", pattern=PICTURES, allowed="an artifact of a trial such as corrections.npz")
    images: int = setting(6, "how many", minimum=1)


@dataclass(frozen=True)
class ResourceSettings(Settings):
    """What one trial needs of a node."""

    cpu: int | float = setting(1, "processors", minimum=0)
    gpu: int | float = setting(
        0, "GPUs, or a share of one", minimum=0, whole_above=1, allowed="a number from 0 to 1, or a whole one"
    )
    gpu_memory: int | float | Literal["measured"] = setting(
        None,
        "GB of a GPU, from which its share follows; measured: what earlier trials took",
        above=0,
        allowed="a number of GB above 0, or measured",
    )
    kind: str = setting(None, "kind of the node", pattern=".+", allowed="what such nodes are started with, a name")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpu_memory is not None and self.gpu not in (0, 1):
            problem = f"the share of a GPU follows from it; take out gpu: {self.gpu}"
            raise SettingError("gpu_memory", self.gpu_memory, "", problem=problem)


@dataclass(frozen=True)
class OverrideSettings(Settings):
    """Settings for the trials that match. The last one wins, but for axes and `--set`, which win over all."""

    when: dict[str, Any] = setting(
        doc="settings, `method`, `variant` or `seed` with the values that a trial must have", min_items=1
    )
    set: dict[str, Any] = setting(doc="settings with the values that such a trial gets", min_items=1)


@dataclass(frozen=True, kw_only=True)
class SpaceFile(Settings):
    """A search space file. Settings may be written nested, `data: {labels: full}`, or dotted, `data.labels: full`."""

    title: str = setting(None, "one line: what is swept", problem=_TEXT)
    source: dict[str, Any] = setting(None, "paper and item that it reproduces")
    note: str = setting("", "what readers of its table should know, such as what it simplifies", problem=_TEXT)
    data: DataSettings = setting(None, "data settings of every variant")
    network: NetworkSettings = setting(None, "network settings of every variant")
    train: TrainSettings = setting(None, "training settings of every variant")
    diagnostics: DiagnosticSettings = setting(None, "what is looked at beside the metrics, of every variant")
    variants: dict[str, Any] = setting(doc="rows: a name and what it sets", min_items=1)
    axes: dict[str, Any] = setting(None, "settings with the values they take, crossed with the variants that have them")
    leave_one_out: tuple[Any, ...] = setting(
        None, "settings that are switched off, one in each of as many more rows of every variant that has them"
    )
    one_at_a_time: dict[str, Any] = setting(
        None, "settings with the values they take, one in each of as many more rows, the others as they are"
    )
    search: SearchSettings = setting(
        None, "algorithm, trials per variant, objectives, seeds that confirm the best; axes are then distributions"
    )
    stop: Rule | Stop = setting(
        None, "a rule that ends trials of a search early: asha, median, or {rule, grace, reduction}"
    )
    overrides: tuple[OverrideSettings, ...] = setting(
        (),
        "list of {when, set}: settings for the trials that match",
        problem="give a list of {when: {...}, set: {...}}",
    )
    seeds: tuple[int, ...] = setting((1, 2, 3), "list of integers from 1", **_SEEDS)
    select: Select = setting(Select(), "metric and epoch that a trial reports")
    table: TableSettings = setting(TableSettings(), "rows, columns, value, average and reference rows of its table")
    figure: CurveSettings | PointSettings | PictureSettings = setting(
        None, "curves (x, y), points (x, y) or pictures (pictures, images); without it the table is drawn"
    )
    resources: ResourceSettings = setting(
        ResourceSettings(),
        "of one trial: cpu, gpu or gpu_memory (GB, or `measured`), and the kind of node it must be on",
    )
    on_finish: str = setting(
        "", "shell command that is run when a sweep has ended; it gets the line of `run --json` on stdin", problem=_TEXT
    )
    profiles: dict[str, Any] = setting(
        None, "named changes to all of the above; `from: FILE` makes those of a file first"
    )


FILE = {field.name: field for field in fields(SpaceFile)}
KEYS = {name: field.metadata["doc"] for name, field in FILE.items()}


def plain(settings: Settings) -> dict[str, Any]:
    """The values of a section as JSON has them, without what may be left out and was."""
    given = {field.name: getattr(settings, field.name) for field in fields(type(settings))}
    left_out = {field.name for field in fields(type(settings)) if field.optional and given[field.name] is None}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if name not in left_out
    }


# What no field can see.


def check_stop(node: Located, stop: Stop, search: Search | None) -> None:
    if search is None and not stop.force:
        raise node.error(
            "stop: trials of a table that are stopped early bias it: which are, depends on the others and on which "
            "machine is faster; it is for a `search`, or give {rule: ..., force: true}"
        )
    if search and len(search.objectives) > 1:
        raise node.error(
            f"stop: {stop.rule} ends trials that are behind the others on one metric, which with several "
            "objectives says nothing of them; take it out, or search.objectives"
        )


def check_table(given: Values, table: TableSettings, configs: Iterable[Config]) -> None:
    """`configs` are those of the trials, or of a search examples of them."""
    if table.average is not None and table.columns == "epoch":
        raise given["average"].error("table.average: the columns are epochs, which a figure shows and nothing averages")
    many = isinstance(table.value, tuple) or table.value == CLASSES
    for name, differ in {"value": many, "rows": table.rows == "metric"}.items():
        if differ and "metric" not in several(table.columns):
            raise given[name].error(f"table.{name}: several metrics need a place; give them one by columns: metric")
    if "value" in given:
        _refuse_unmeasured(given["value"], "table.value", several(table.value), configs)


def figure_form(node: Located) -> type[Settings] | None:
    """Which of its forms a figure has; None where it is empty and the table is drawn."""
    given, forms = node.mapping("figure"), FILE["figure"].kinds
    check_names(given, dict.fromkeys(field.name for form in forms for field in fields(form)), "key of figure")
    if not given:
        return None
    curves, points, pictures = forms
    if "pictures" in given and given.keys() <= {"pictures", "images"}:
        return pictures
    if "y" not in given or not given.keys() <= {"x", "y"}:
        raise node.error(
            "figure: give it curves, {x: epoch, y: train/loss}, points, {x: train/known_labels, y: test/map}, or "
            "pictures, {pictures: corrections.npz, images: 6}"
        )
    x = given.get("x", Located("epoch", node.where))
    if x.plain() not in ("epoch", *TABLE_VALUES):
        raise x.error(f"figure.x: {unknown('value', x.plain(), ['epoch', *TABLE_VALUES])}")
    return curves if x.value == "epoch" else points


def refuse_reported(given: Values) -> None:
    """A search chooses by nothing that is reported."""
    objectives = given["objectives"].mapping("search.objectives") if "objectives" in given else {}
    for name, way in objectives.items():
        if name.startswith("test/"):
            raise way.error(f"search.objectives: {name} is what is reported, so nothing is chosen by it; take val/...")


def made_search(
    node: Located,
    settings: SearchSettings,
    metric: str,
    rows: Mapping[str, Row],
    seeds: Sequence[int],
    make: Callable[[str, Mapping[str, Any], int], Any],
    overrides: Any,
) -> Search:
    """The search that is declared, with the axes of these rows and what makes the trial of a point."""
    given, confirm = node.mapping("search"), settings.confirm
    objectives = settings.objectives or {metric: "max"}
    if confirm and (both := sorted({*seeds}.intersection(confirm.seeds))):
        raise (
            given["confirm"]
            .value["seeds"]
            .error(
                f"search.confirm.seeds: {', '.join(map(str, both))} searched already; what is found best is reported "
                "on seeds that did not find it"
            )
        )
    axes = {name: _distributions(values, points) for name, (values, points) in rows.items()}
    for name, of_variant in axes.items():
        if not of_variant and settings.trials > 1:
            raise node.error(
                f"search: variant {name} has no axis, so there is nothing to search; take it out, or give it one"
            )
    configs = {name: make(name, {}, seeds[0]).config for name in rows}
    if settings.objectives:
        _refuse_unmeasured(given["objectives"], "search.objectives", objectives, configs.values())
    return Search(
        algorithm=settings.algorithm,
        trials=settings.trials,
        lag=settings.lag,
        startup=settings.startup,
        confirm_top=(confirm.top or (1 if len(objectives) == 1 else settings.trials)) if confirm else 0,
        confirm_seeds=confirm.seeds if confirm else (),
        objectives=objectives,
        axes=axes,
        make=make,
        fixed=[overrides, {name: config.identity() for name, config in configs.items()}],
    )


def _refuse_unmeasured(node: Located, key: str, names: Iterable[str], configs: Iterable[Config]) -> None:
    for name in names:
        diagnostic, _, metric = name.partition("/")
        for config in configs:
            needed = []
            if metric in GROUP_METRICS and config.data.labels not in GROUPED_REGIMES:
                needed.append(f"data.labels: {' | '.join(GROUPED_REGIMES)}")
            if diagnostic in DIAGNOSTICS and diagnostic not in config.diagnostics.on():
                needed.append(f"diagnostics.{diagnostic}: true")
            if name == CLASSES and not config.diagnostics.per_class:
                needed.append("diagnostics.per_class: true")
            if needed:
                raise node.error(f"{key}: {name} needs {needed[0]} in every trial")


def _distributions(values: Values, axes: Mapping[str, list[Located] | Distribution]) -> dict[str, Distribution]:
    """The axes of a variant as what is drawn from, each with when it acts."""
    known = dict(setting_fields(values["method"].value))
    found = {}
    for name, axis in axes.items():
        section = name.rpartition(".")[0]
        acts = known[name].metadata.get("when") or {}
        when = {f"{section}.{other}" if section else other: tuple(allowed) for other, allowed in acts.items()}
        drawn = axis if isinstance(axis, Distribution) else Distribution("choice", tuple(p.value for p in axis))
        found[name] = replace(drawn, when=when)
    return found
