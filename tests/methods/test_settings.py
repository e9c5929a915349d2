"""Settings: what is accepted, what is refused and in which words, what follows what."""

import dataclasses
import pickle
from dataclasses import FrozenInstanceError, dataclass
from typing import Literal

import pytest

from methods.contract.settings import SettingError, Settings, fields, setting
from methods.data.settings import DataSettings
from methods.training.config import Config, resolve, setting_fields
from methods.training.registry import methods


@dataclass(frozen=True)
class Kitchen(Settings):
    size: int = setting(3, "rooms", minimum=1, maximum=9)
    heat: float = setting(0.5, "heat", above=0, maximum=2, typical=(0.1, 0.9))
    style: Literal["plain", "rich"] = setting("plain", "style")
    sauce: str = setting("none", "sauce", when={"style": ("rich",)})
    salted: bool = setting(False, "salted")
    oven: int | None = setting(None, "oven", minimum=0)


def test_values_are_held_as_their_fields_mean_them():
    kitchen = Kitchen(size=2, heat=1, oven=0)
    assert type(kitchen.heat) is float
    assert kitchen.heat == 1.0
    assert (kitchen.size, kitchen.oven, kitchen.salted) == (2, 0, False)
    assert kitchen == Kitchen(size=2, heat=1.0, oven=0)
    assert hash(kitchen) == hash(Kitchen(size=2, heat=1.0, oven=0))
    with pytest.raises(FrozenInstanceError):
        kitchen.size = 4


@pytest.mark.parametrize(
    ("name", "given", "allowed"),
    [
        ("size", 0, "an integer at least 1 and at most 9"),
        ("size", 10, "an integer at least 1 and at most 9"),
        ("size", 2.0, "an integer at least 1 and at most 9"),
        ("size", True, "an integer at least 1 and at most 9"),
        ("size", None, "an integer at least 1 and at most 9"),
        ("heat", 0, "a number above 0 and at most 2"),
        ("heat", 0.0, "a number above 0 and at most 2"),
        ("heat", -0.5, "a number above 0 and at most 2"),
        ("heat", 2.5, "a number above 0 and at most 2"),
        ("heat", float("nan"), "a number above 0 and at most 2"),
        ("heat", float("inf"), "a number above 0 and at most 2"),
        ("heat", "0.1", "a number above 0 and at most 2"),
        ("style", "poor", "plain | rich"),
        ("sauce", 1, "a text"),
        ("salted", 1, "true | false"),
        ("oven", -1, "an integer at least 0 or null"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_was_given_and_what_is_allowed(name, given, allowed):
    with pytest.raises(SettingError) as error:
        Kitchen(**{name: given})
    assert str(error.value) == f"{name}: {given!r} is not allowed; allowed is {allowed}"
    assert (error.value.name, error.value.allowed) == (name, allowed)


def test_a_refusal_says_the_same_in_another_process():
    error = pickle.loads(pickle.dumps(SettingError("train.epochs", 0, "an integer at least 1")))
    assert str(error) == "train.epochs: 0 is not allowed; allowed is an integer at least 1"
    assert (error.name, error.given, error.allowed) == ("train.epochs", 0, "an integer at least 1")


def test_fields_list_their_choices_defaults_and_words():
    listed = {field.name: field for field in fields(Kitchen)}
    assert list(listed) == ["size", "heat", "style", "sauce", "salted", "oven"]
    assert listed["style"].choices == ("plain", "rich")
    assert listed["salted"].choices == (False, True)
    assert listed["size"].choices == ()
    assert listed["heat"].metadata["typical"] == (0.1, 0.9)
    assert listed["size"].default == 3
    assert not listed["size"].required
    assert listed["size"].metadata["doc"] == "rooms"


def test_a_field_acts_only_where_the_fields_it_depends_on_say_so():
    assert "sauce" not in Kitchen(sauce="hot").acting()
    assert Kitchen(style="rich", sauce="hot").acting()["sauce"] == "hot"


@dataclass(frozen=True)
class Oven(Settings):
    racks: int = setting(2, "racks", minimum=1)
    kind: str = setting(None, "may be left out", pattern="[a-z]+")


@dataclass(frozen=True, kw_only=True)
class Menu(Settings):
    days: tuple[int, ...] = setting((1, 2), "days", minimum=1, unique=True, min_items=1)
    course: str | tuple[str, ...] = setting("soup", "one or several", one_of=("soup", "cake"))
    prices: dict[str, float] = setting(None, "by course", one_of=("soup", "cake"), noun="course", above=0)
    guest: str = setting("Ann", "known to the reader alone", one_of=lambda guests: guests)
    oven: Oven | Literal["none"] = setting("none", "an oven")
    power: int | float = setting(1, "a share, or a whole number", minimum=0, whole_above=1)
    cook: str = setting(doc="who cooks")


MENU = {field.name: field for field in fields(Menu)}


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("days", [3, 1], (3, 1)),
        ("course", "cake", "cake"),
        ("course", ["cake", "soup"], ("cake", "soup")),
        ("prices", {"soup": 2}, {"soup": 2.0}),
        ("oven", "none", "none"),
        ("oven", {"racks": 3}, Oven(3)),
        ("oven", {}, Oven()),
        ("power", 0.5, 0.5),
        ("power", 2, 2),
        ("power", 2.0, 2.0),
    ],
)
def test_a_setting_may_be_a_list_a_mapping_or_a_section(name, given, held):
    checked = MENU[name].check(given)
    assert checked == held
    assert type(checked) is type(held)


NO = "is not allowed; allowed is "


@pytest.mark.parametrize(
    ("name", "given", "at", "text"),
    [
        (
            "days",
            3,
            (),
            "days: 3 is not allowed; allowed is a list of values, each an integer at least 1, all different",
        ),
        ("days", [], (), "days: the list is empty; take it out or put something in it"),
        ("days", [1, 0], (1,), "days: 0 is not allowed; allowed is an integer at least 1"),
        ("days", [1, 2, 1], (0,), "days: 1 stands in it twice"),
        ("course", ["soup", "tea"], (1,), "course: 'tea' is not allowed; allowed is soup | cake"),
        ("prices", {"soup": 2, "tea": 1}, ("tea",), "prices: 'tea' is not allowed; allowed is soup, cake"),
        ("prices", {"soup": "much"}, ("soup",), "prices.soup: 'much' is not allowed; allowed is a number"),
        ("oven", {"rack": 1}, ("rack",), "oven: 'rack' is not allowed; allowed is racks, kind"),
        ("oven", {"racks": 0}, ("racks",), "oven.racks: 0 is not allowed; allowed is an integer at least 1"),
        ("oven", {"kind": None}, ("kind",), "oven.kind: None is not allowed; allowed is a text"),
        ("oven", {"kind": "GAS"}, ("kind",), "oven.kind: 'GAS' is not allowed; allowed is a text"),
        ("oven", "gas", (), "oven: 'gas' is not allowed; allowed is a mapping of racks, kind or none"),
        ("power", 1.5, (), "power: 1.5 is not allowed; allowed is a number at least 0"),
    ],
)
def test_what_is_wrong_in_a_list_a_mapping_or_a_section_is_named_with_its_place(name, given, at, text):
    with pytest.raises(SettingError) as error:
        MENU[name].check(given)
    assert str(error.value) == text
    assert error.value.at == at


def test_names_that_only_a_reader_knows_are_checked_among_those_it_gives():
    assert MENU["guest"].check("Bob") == "Bob"
    assert MENU["guest"].check("Bob", ["Bob"]) == "Bob"
    with pytest.raises(SettingError) as error:
        MENU["guest"].check("Bob", ["Ann", "Eve"])
    assert list(error.value.known) == ["Ann", "Eve"]


def test_a_section_needs_what_has_no_default_and_leaves_out_what_is_not_given():
    field = dataclasses.replace(MENU["oven"], name="menu", type=Menu)
    with pytest.raises(SettingError, match="menu: it needs cook: who cooks"):
        field.check({"days": [1]})
    menu = field.check({"cook": "Ann", "days": [4]})
    assert menu == Menu(cook="Ann", days=(4,))
    plain = {"days": [4], "course": "soup", "guest": "Ann", "oven": "none", "power": 1, "cook": "Ann"}
    assert menu.plain() == plain, "prices were not given"


@pytest.mark.parametrize("name", methods())
def test_every_setting_of_every_method_is_documented_and_its_own_values_are_allowed(name):
    known = dict(setting_fields(name))
    for dotted, field in known.items():
        assert field.metadata["doc"], f"{dotted} says nothing"
        assert not field.required, f"{dotted} has no default"
        for value in (field.default, *field.choices, *field.metadata["typical"]):
            assert field.check(value) == value
        section = dotted.rpartition(".")[0]
        for sibling, allowed in field.metadata["when"].items():
            sibling = known[f"{section}.{sibling}" if section else sibling]
            assert all(sibling.check(value) == value for value in allowed)


def test_a_configuration_is_resolved_to_its_last_default():
    config = resolve(
        {"method": "large_loss", "delta_rel": 1, "data.labels": "proportion", "train.epochs": 3, "seed": 7}
    )
    assert isinstance(config, Config)
    assert config.method == "large_loss"
    assert config.seed == 7
    flat = config.flat()
    assert list(flat) == ["method", *dict(setting_fields("large_loss")), "seed"]
    assert (flat["delta_rel"], flat["scheme"], flat["data.known"], flat["train.epochs"]) == (1.0, "reject", 0.5, 3)
    assert resolve(flat) == config
    assert resolve({"method": "assume_negative"}).seed == 1


def test_scenes_are_fixed_and_masks_follow_the_seed_unless_told_otherwise():
    def drawn(**values):
        config = resolve({"method": "assume_negative", "seed": 7, **values})
        return config.data.draw, config.data.mask_seed

    assert drawn() == (1, 7)
    assert drawn(**{"data.draw": 0, "data.mask_seed": None}) == (0, 7)
    assert drawn(**{"data.mask_seed": 1200, "data.draw": "follows_seed"}) == (7, 1200)


def test_published_values_take_the_place_of_defaults_and_of_nothing_that_is_given():
    plain, published = (resolve({"method": "sarb", "graph_steps": 2}, published=asked) for asked in (False, True))
    known = dict(setting_fields("sarb"))
    for name, value in published.flat().items():
        stated = known[name].metadata["published"] if name in known else None
        if name == "graph_steps":
            assert (stated, value) == (3, 2)
        elif stated is None:
            assert value == plain.flat()[name]
        else:
            assert value == known[name].default_of(published=True) == stated
    assert plain.settings.attention_width == known["attention_width"].default_of(published=False) == 32
    assert published.settings.attention_width == 512
    assert resolve(published.flat()) == published, "a configuration holds values alone"
    assert published.keys() == resolve(published.flat()).keys()


def test_a_trials_name_leaves_out_nothing_that_is_not_declared_free():
    config = resolve({"method": "assume_negative"})
    free = {name for name, field in setting_fields("assume_negative") if field.metadata["result_free"]}
    assert config.flat().keys() - config.identity().keys() == free
    assert {"method", "seed", "data.val_images", "train.epochs"} <= config.identity().keys()


@pytest.mark.parametrize(
    ("values", "name", "part"),
    [
        ({"method": "magic"}, "method", " | ".join(methods())),
        ({}, "method", "assume_negative"),
        ({"method": "assume_negative", "delta_rel": 1}, "delta_rel", "one of the settings of assume_negative: weak"),
        ({"method": "large_loss", "delta_rel": -1}, "delta_rel", "a number at least 0 and at most 100"),
        ({"method": "large_loss", "delta_rel": 100.5}, "delta_rel", "a number at least 0 and at most 100"),
        ({"method": "large_loss", "train.epoch": 3}, "train.epoch", "train.epochs"),
        ({"method": "large_loss", "train.epochs": 0}, "train.epochs", "an integer at least 1"),
        ({"method": "large_loss", "data.known": 0}, "data.known", "a number above 0 and at most 1"),
        ({"method": "large_loss", "seed": -1}, "seed", "an integer at least 0"),
        ({"method": "large_loss", "seed": "1"}, "seed", "an integer at least 0"),
        ({"method": "large_loss", "data.mask_seed": 2**32}, "data.mask_seed", "at most 4294967295"),
    ],
    ids=str,
)
def test_a_configuration_is_refused_by_the_dotted_name_of_what_is_wrong(values, name, part):
    with pytest.raises(SettingError) as error:
        resolve(values)
    assert error.value.name == name
    assert part in error.value.allowed


def test_the_same_values_in_any_order_are_the_same_configuration():
    values = {"method": "large_loss", "delta_rel": 0.4, "data.known": 0.1, "seed": 2}
    assert resolve(values) == resolve(dict(reversed(values.items())))
    assert DataSettings(known=1) == DataSettings(known=1.0)
