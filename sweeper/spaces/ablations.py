"""The rows that an ablation makes of a variant: the same but for one setting (`leave_one_out`, `one_at_a_time`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from methods.contract.settings import Field
from methods.training.config import setting_fields
from methods.training.registry import methods

from .search import Distribution
from .values import Values, axes_of, check, flat, part
from .yaml_file import Located, Where, nearest, shown


@dataclass(frozen=True)
class Change:
    """What an ablation changes in a variant: a setting, to `value` or, where that is None, to what switches it off.
    `left_out`: it is a component, which must have been on."""

    setting: str
    value: Located | None
    where: Where
    left_out: bool = False


def with_ablations(top: Values, base: Values, forced: Values, published: bool) -> Iterator[tuple[str, Located]]:
    """The variants as they are written, each followed by its ablations: the same but for one setting."""
    changes, settings = _changes(top), dict[str, Field]()
    for name, node in part(top, "variants").items():
        yield name, node
        given = flat(node.mapping(f"variant {name}"))
        method = given["method"].value if "method" in given else None  # if it is wrong, reading the row says so
        known = dict(setting_fields(method)) if method in list(methods()) else {}
        settings |= known
        for change in changes:
            key = change.setting
            if key not in known or key in forced:
                continue
            value, before = change.value or _off(change, known[key]), {**base, **given}.get(key)
            now = known[key].default_of(published) if before is None else check(key, known[key], before)
            if check(key, known[key], value) != now:
                what = f", {key}={value.plain()}" if change.value else f" − {key}"
                yield name + what, Located({**node.value, key: value}, change.where)
            elif change.left_out:
                raise change.where.error(f"leave_one_out: {key} of {name} is {shown(now)} already; take one out")
    for change in changes:
        key = change.setting
        if key not in settings:
            raise change.where.error(f"no variant has the setting {key}{nearest(key, settings)}")


def _changes(top: Values) -> list[Change]:
    node = top.get("leave_one_out", Located([], Where("")))
    changes = []
    for item in node.value if isinstance(node.value, list) else [node]:
        named = isinstance(item.value, dict) and len(item.value) == 1
        if not named and not isinstance(item.value, str):
            raise item.error(
                "leave_one_out: give a list of settings, each by its name, or with the value that switches it off: "
                f"[ilrb, {{decoupling: off}}]; given was {shown(node.plain())}"
            )
        key, value = next(iter(item.value.items())) if named else (item.value, None)
        changes.append(Change(key, value, item.where, left_out=True))
    for key, (points, where) in axes_of(part(top, "one_at_a_time")).items():
        if isinstance(points, Distribution):
            raise where.error(f"one_at_a_time: give {key} a list of values; ranges are for the axes of a search")
        changes += [Change(key, Located(point, where), where) for point in points]
    return changes


def _off(change: Change, field: Field) -> Located:
    """false of a switch, `off` where that is a choice, 0 of a weight; of other settings it has to be said."""
    weight = field.name.endswith("weight") and field.metadata["minimum"] == 0
    for value in [choice for choice in field.choices if choice is False or choice == "off"] + [0] * weight:
        return Located(value, change.where)
    raise change.where.error(
        f"leave_one_out: {change.setting} has no value that is off; write {{{change.setting}: VALUE}}; allowed is "
        f"{field.allowed}"
    )
