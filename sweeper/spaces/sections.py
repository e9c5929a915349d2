"""The keys and sections of a space file, each declared once: what they take, their defaults, what they are for.

The checks, the JSON schema and the reference page are made from the declarations. The functions at the end check what
needs more than one key: the rows or the trials of a space. The modules `reading`, `layers` and `ablations` read the
settings of methods.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from methods.contract.settings import SettingError, Settings, fields, setting
from methods.data.settings import DataSettings
from methods.evaluation.diagnostics import DIAGNOSTICS, DiagnosticSettings
from methods.evaluation.metrics import GROUP_METRICS, GROUPED_REGIMES
from methods.networks.settings import NetworkSettings
from methods.training.config import Config, setting_fields
from methods.training.recipes import TrainSettings

from .search import Distribution, Search, SearchSettings
from .values import Points, Row, Values, check, part, several
from .vocabulary import CLASSES, DIFFERENT, PICTURES, SEEDS, SELECTING, TABLE_VALUES, Known
from .yaml_file import Located, check_names, unknown

_TEXT = "a text is needed; given was {given}"
_RESULT = "one of the results that table.value takes"
_LISTS = "a mapping of settings to lists of values"
Rule = Literal["asha", "median", "none"]


@dataclass(frozen=True)
class Select(Settings):
    """Which epoch a trial reports: the one best on `metric` (the earliest of equals), or the last; and which epochs it
    has. The latter depends on the trial's own history alone, so it is the same on any machine."""

    # One of these names in a file; any name in code, because names of a function are not checked by the constructor.
    metric: str = setting("val/map", "a metric on val; the larger, the better", one_of=lambda of: SELECTING)
    epoch: Literal["best", "last"] = setting("best", "the epoch that is best on the metric, or the last one")
    end_below_best: int | float = setting(
        None,
        "a trial ends after the first epoch in which the metric is more than this below its best so far, in its unit; "
        "left out: all epochs are trained. Large Loss Matters, released code: 3",
        above=0,
    )

    def ends(self, history: Sequence[Mapping[str, float]]) -> int | None:
        """The epoch, from 1, after which the trial of these metrics ends by `end_below_best`; None: it goes on."""
        if self.end_below_best is None:
            return None
        best = -math.inf
        for epoch, metrics in enumerate(history, start=1):
            if metrics[self.metric] < best - self.end_below_best:
                return epoch
            best = max(best, metrics[self.metric])
        return None

    def choose(self, history: Sequence[Mapping[str, float]]) -> int:
        """The selected epoch, from 1, of the metrics of epochs 1 … E; the last where the metric is NaN everywhere."""
        history = history[: self.ends(history)]
        if self.epoch == "last":
            return len(history)
        values = [metrics[self.metric] for metrics in history]
        best = max((value for value in values if value == value), default=None)
        return len(history) if best is None else values.index(best) + 1


@dataclass(frozen=True)
class Stop(Settings):
    """A rule that ends trials early, by their values of the selection metric.

    `asha` compares trials after `grace` epochs, after `grace` * `reduction`, after `grace` * `reduction`², and so on.
    Each time the best 1 / `reduction` of the trials continue, and the others stop. `median` compares after every epoch
    from `grace` on: a trial stops if its best value is below the median of the mean values of the other trials.
    """

    rule: Rule = setting(doc="the rule; none: no trial is stopped")
    grace: int = setting(1, "epochs that every trial is given", minimum=1)
    reduction: int = setting(3, "of asha: one trial in so many continues", minimum=2)
    force: bool = setting(False, "stop trials of a table too, which biases it", result_free=True)


@dataclass(frozen=True)
class TableSettings(Settings):
    """What `python -m analysis table` prints."""

    rows: str = setting("variant", "a row for each variant, or for each metric", one_of=("variant", "metric"))
    columns: Literal["epoch"] | str | tuple[str, ...] | None = setting(
        None,
        "a column for each epoch, for each metric of `value`, or for each value of settings",
        one_of=Known.columns,
        allowed="epoch, metric, a setting such as data.known, a list of metric and settings, all different, or null",
        **DIFFERENT,
    )
    value: str | tuple[str, ...] = setting(
        "test/map", "results in its cells; several need `columns: metric`", one_of=TABLE_VALUES, **DIFFERENT
    )
    reference: str | tuple[str, ...] = setting(
        (), "variants set apart", one_of=lambda of: of.variants, noun="variant", allowed="a variant or a list of them"
    )
    average: str = setting(
        None, "a setting; the mean over its values is taken", one_of=Known.settings, allowed="a setting"
    )


@dataclass(frozen=True, kw_only=True)
class CurveSettings(Settings):
    """Curves over the epochs."""

    x: Literal["epoch"] = setting("epoch", "the epochs")
    y: str | tuple[str, ...] = setting(
        doc="what is measured in every epoch, or train/NAME for what the methods report",
        one_of=Known.curves,
        **DIFFERENT,
    )


@dataclass(frozen=True)
class PointSettings(Settings):
    """A point for each setting of a variant: one result over another."""

    x: str = setting(doc="a result", one_of=TABLE_VALUES, allowed=_RESULT)
    y: str = setting(doc="a result", one_of=TABLE_VALUES, allowed=_RESULT)


@dataclass(frozen=True)
class PictureSettings(Settings):
    """Pictures that trials have left."""

    pictures: str = setting(doc="file", pattern=PICTURES, allowed="an artifact of a trial such as corrections.npz")
    images: int = setting(6, "images of it that are drawn", minimum=1)
    failures: int = setting(
        None,
        "of attention.npz: so many images that the last variant ranks worst are drawn too, below the `images` that it "
        "ranks best; the file should have more images than both",
        minimum=1,
    )


@dataclass(frozen=True)
class ResourceSettings(Settings):
    """What one trial needs of a node."""

    cpu: int | float = setting(1, "processors", minimum=0)
    gpu: int | float = setting(
        0, "GPUs, or a share of one", minimum=0, whole_above=1, allowed="a number from 0 to 1, or a whole one"
    )
    gpu_memory: int | float | Literal["measured"] = setting(
        None, "its share of a GPU follows from it", above=0, allowed="a number of GB above 0, or measured"
    )
    kind: str = setting(None, "kind of the node", pattern=".+", allowed="what such nodes are started with, a name")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpu_memory is not None and self.gpu not in (0, 1):
            problem = f"the share of a GPU follows from it; take out gpu: {self.gpu}"
            raise SettingError("gpu_memory", self.gpu_memory, "", problem=problem)


@dataclass(frozen=True)
class OverrideSettings(Settings):
    """Settings for the trials that match. Of several the last one wins; axes and `--set` win over all."""

    when: dict[str, Any] = setting(doc="settings, method, variant or seed with the value that a trial has", min_items=1)
    set: dict[str, Any] = setting(doc="settings with the values that such a trial gets", min_items=1)


@dataclass(frozen=True, kw_only=True)
class SpaceFile(Settings):
    """A search space file. Settings may be written nested, `data: {labels: full}`, or dotted, `data.labels: full`."""

    title: str = setting(None, "one line: what is swept", problem=_TEXT)
    source: dict[str, Any] = setting(
        None,
        "what it reproduces. paper: its file in analysis/papers. table: a table of this file, printed below ours. "
        "item: in place of table, a figure or table of the paper; printed if the file has it",
        allowed="a mapping of paper, table and item",
    )
    note: str = setting("", "what readers of its table should know, such as what it simplifies", problem=_TEXT)
    data: DataSettings = setting(None, "data settings of every variant")
    network: NetworkSettings = setting(None, "network settings of every variant")
    train: TrainSettings = setting(None, "training settings of every variant")
    diagnostics: DiagnosticSettings = setting(None, "what is looked at beside the metrics, of every variant")
    defaults: Literal["default", "published"] = setting(
        "default",
        "the value of a setting that nothing gives: its default, which suits the embedded data, or the published one "
        "where the setting has one",
    )
    variants: dict[str, Any] = setting(
        doc="the rows. method: one of `python -m sweeper methods`, required. axes: as the key axes, for this variant "
        "alone. All else are settings of the method, or of data, network, train and diagnostics",
        min_items=1,
        allowed="a mapping of names to mappings of method, axes and settings",
    )
    axes: dict[str, Any] = setting(
        None,
        "settings that are swept, crossed with each other and with every variant that has them and does not set them. "
        "A list may be written [...], {grid: [...]} or {choice: [...]}. A search draws from a list, or from a range: "
        "{uniform: [low, high]}, {loguniform: [low, high]} with low above 0, or {int: [low, high]}, both included",
        allowed=f"{_LISTS} or, with a search, ranges",
    )
    leave_one_out: tuple[Any, ...] = setting(
        None,
        "adds a row to each variant that has the setting, with it off: false, off, or 0 of a weight; else give VALUE",
        allowed="a list of settings, each as NAME or {NAME: VALUE}",
    )
    one_at_a_time: dict[str, Any] = setting(
        None, "adds a row for each value to each variant that has the setting, all else unchanged", allowed=_LISTS
    )
    search: SearchSettings = setting(None, "draws points from the axes instead of crossing them")
    stop: Rule | Stop = setting(None, "a rule that ends trials of a search early; its name alone, or {rule, ...}")
    overrides: tuple[OverrideSettings, ...] = setting(
        (), "settings for the trials that match", problem="give a list of {when: {...}, set: {...}}"
    )
    seeds: tuple[int, ...] = setting((1, 2, 3), "every trial is trained under each of them", **SEEDS)
    select: Select = setting(Select(), "metric and epoch that a trial reports")
    table: TableSettings = setting(TableSettings(), "rows, columns and cells of its table")
    figure: CurveSettings | PointSettings | PictureSettings = setting(None, "what is drawn; left out: the table")
    resources: ResourceSettings = setting(ResourceSettings(), "what one trial needs of a node")
    on_finish: str = setting("", "shell command run at the end of a sweep, with `run --json` on stdin", problem=_TEXT)
    profiles: dict[str, Any] = setting(
        None,
        "changes that `--profile NAME` merges over the file; null takes an entry out. from: a file of changes that are "
        "made first; its path starts at the folder of this file",
        allowed="a mapping of names to mappings of from and the keys above",
    )


FILE = {field.name: field for field in fields(SpaceFile)}

# Examples for the reference page.
EXAMPLES = {
    "source": "source: {paper: large_loss_matters, table: methods}",
    "variants": "variants:\n  AN: {method: assume_negative, data.labels: full}\n"
    "  LL-R: {method: large_loss, scheme: reject, train: {epochs: 6}, axes: {delta_rel: [0.2, 0.4]}}",
    "axes": "axes: {data.known: [0.1, 0.9], delta_rel: {grid: [0.2, 0.4]}}",
    "leave_one_out": "leave_one_out: [protect_observed, {train.schedule: constant}]",
    "one_at_a_time": "one_at_a_time: {train.learning_rate: [1e-3, 3e-3], delta_rel: [0.4]}",
    "search": "search: {trials: 30, confirm: {seeds: [4, 5]}}\n"
    "axes: {train.learning_rate: {loguniform: [1e-4, 1e-2]}, train.epochs: {int: [5, 20]}, "
    "train.momentum: {uniform: [0.5, 0.95]}}",
    "overrides": "overrides: [{when: {method: large_loss, seed: 1}, set: {train.epochs: 6}}]",
    "profiles": "profiles: {quick: {seeds: [1], train: {epochs: 2}, variants: {AN: null}}}",
}


# Checks that need more than one key.


def stop_rule(node: Located | None, given: Stop | Rule | None, search: Search | None) -> Stop | None:
    """The rule that ends trials, written in full or by its name."""
    stop = Stop(given) if isinstance(given, str) else given
    if node is None or stop is None or stop.rule == "none":
        return None
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
    return stop


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


def figure(node: Located, known: Known) -> dict[str, Any]:
    """A figure in one of its forms; empty where the table is what is drawn."""
    given, (curves, points, pictures) = node.mapping("figure"), FILE["figure"].kinds
    check_names(given, [field.name for form in (curves, pictures) for field in fields(form)], "key of figure")
    if not given:
        return {}
    x = given.get("x", Located("epoch", node.where))
    form = pictures if "pictures" in given else curves if x.value == "epoch" else points
    if not given.keys() <= {field.name for field in fields(form)} or given.keys().isdisjoint({"y", "pictures"}):
        raise node.error(
            "figure: give it curves, {x: epoch, y: train/loss}, points, {x: train/known_labels, y: test/map}, or "
            "pictures, {pictures: corrections.npz, images: 6}"
        )
    if x.plain() not in ("epoch", *TABLE_VALUES):
        raise x.error(f"figure.x: {unknown('value', x.plain(), ['epoch', *TABLE_VALUES])}")
    return check("figure", replace(FILE["figure"], type=form), Located(given, node.where), known).plain()


def made_search(
    node: Located,
    metric: str,
    rows: Mapping[str, Row],
    seeds: Sequence[int],
    make: Callable[[str, Mapping[str, Any], int], Any],
    overrides: Any,
) -> Search:
    """The search over the axes of these rows. `make` makes the trial of a variant, a point and a seed."""
    given = node.mapping("search")
    for name, way in part(given, "objectives").items():
        if name.startswith("test/"):
            raise way.error(f"search.objectives: {name} is what is reported, so nothing is chosen by it; take val/...")
    settings: SearchSettings = check("search", FILE["search"], Located(given, node.where))
    confirm = settings.confirm
    objectives = settings.objectives or {metric: "max"}
    if confirm and (both := sorted({*seeds}.intersection(confirm.seeds))):
        raise part(given, "confirm")["seeds"].error(
            f"search.confirm.seeds: {', '.join(map(str, both))} searched already; what is found best is reported on "
            "seeds that did not find it"
        )
    axes = {name: _distributions(values, points) for name, (values, points) in rows.items()}
    for name, of_variant in axes.items():
        if not of_variant and settings.trials > 1:
            nothing = f"variant {name} has no axis, so there is nothing to search"
            raise node.error(f"search: {nothing}; take it out, or give it one")
    configs = {name: make(name, {}, seeds[0]).config for name in rows}
    if settings.objectives:
        _refuse_unmeasured(given["objectives"], "search.objectives", objectives, configs.values())
    return Search(
        settings=settings,
        confirm_top=(confirm.top or (1 if len(objectives) == 1 else settings.trials)) if confirm else 0,
        confirm_seeds=confirm.seeds if confirm else (),
        objectives=objectives,
        axes=axes,
        make=make,
        fixed=[overrides, {name: config.identity() for name, config in configs.items()}],
    )


def _refuse_unmeasured(node: Located, key: str, names: Iterable[str], configs: Iterable[Config]) -> None:
    for name, config in itertools.product(names, configs):
        diagnostic, _, metric = name.partition("/")
        needed = ""
        if metric in GROUP_METRICS and config.data.labels not in GROUPED_REGIMES:
            needed = f"data.labels: {' | '.join(GROUPED_REGIMES)}"
        elif diagnostic in DIAGNOSTICS and diagnostic not in config.diagnostics.on():
            needed = f"diagnostics.{diagnostic}: true"
        elif name == CLASSES and not config.diagnostics.per_class:
            needed = "diagnostics.per_class: true"
        if needed:
            raise node.error(f"{key}: {name} needs {needed} in every trial")


def _distributions(values: Values, axes: Mapping[str, Points]) -> dict[str, Distribution]:
    """The distribution of each axis of a variant, with the values that other settings must have for it to act.

    An axis with a list of points becomes a choice among them.
    """
    known = dict(setting_fields(values["method"].value))
    found = {}
    for name, axis in axes.items():
        section = name.removesuffix(known[name].name)
        when = {section + other: tuple(allowed) for other, allowed in known[name].metadata["when"].items()}
        drawn = axis if isinstance(axis, Distribution) else Distribution("choice", tuple(p.value for p in axis))
        found[name] = replace(drawn, when=when)
    return found
