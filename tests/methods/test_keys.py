"""Keys: what changes them and what does not, and how they chain."""

import dataclasses
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from methods import data
from methods.assume_negative import AssumeNegativeObjective
from methods.cache import keys
from methods.contract.objective import Objective
from methods.contract.settings import Settings, setting
from methods.large_loss import LargeLossObjective
from methods.training.config import resolve
from tests.methods.tiny import shared_epochs, tiny


def chain(method="assume_negative", **values):
    return resolve(tiny(method, **values)).keys()


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    """The fingerprint of `kitchen.cook`, in a package `kitchen` of the given files' texts; others lie beside it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "kitchen"
    texts = {
        "__init__": "",
        "cellar/__init__": "from .wine import pour\n",
        "cellar/wine": "def pour():\n    return 1\n",
        "salt": "AMOUNT = 1\n",
        "unused": "AMOUNT = 1\n",
        "cook": '"""Cooking."""\nimport json\n\n\ndef cook(x):\n    """Well."""\n    return x + 1  # minute\n',
    }

    def of(**changed):
        for name, text in {**texts, **changed}.items():
            path = folder / (name if "." in Path(name).name else f"{name}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        forget()
        return keys.fingerprint("kitchen.cook")

    yield of
    forget()


CACHED = [value for value in vars(keys).values() if hasattr(value, "cache_clear")]


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] in ("kitchen", "market", "spices", "acme")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    for cached in CACHED:
        cached.cache_clear()


@pytest.mark.parametrize(
    "cook",
    [
        "# Better.\n'Other words.'\nimport json\n\ndef cook(x):\n    'Very\\n    well.'\n    return x + 1\n",
        "'Cooking.'\nimport json\ndef cook(x):\n    'Well.'\n    # minute\n    return (x +\n      1)\n",
        "import json\n\n\ndef cook(x):\n    return x + 1\n",
    ],
    ids=["other words", "other layout", "no docstrings"],
)
def test_comments_docstrings_and_layout_leave_a_fingerprint_as_it_is(fingerprint, cook):
    assert fingerprint() == fingerprint(cook=cook)


@pytest.mark.parametrize(
    "cook",
    [
        "import json\ndef cook(x):\n    return x + 2\n",
        "import json\ndef cook(x):\n    return x + 1.0\n",
        "import json\ndef cook(x, y=1):\n    return x + 1\n",
        "def cook(x):\n    return x + 1\n",
        "import json\ndef cook(x):\n    return x + 1\nEXTRA = 'text that is no docstring'\n",
    ],
)
def test_a_change_of_code_changes_a_fingerprint(fingerprint, cook):
    assert fingerprint() != fingerprint(cook=cook)


@pytest.mark.parametrize(
    "line", ["from . import salt", "from .salt import AMOUNT", "import kitchen.salt", "from kitchen.salt import AMOUNT"]
)
def test_a_fingerprint_follows_imports_within_the_package(fingerprint, line):
    cook = f"{line}\n"
    before = fingerprint(cook=cook)
    assert before != fingerprint(cook=cook, salt="AMOUNT = 2\n")
    assert before == fingerprint(cook=cook, unused="AMOUNT = 2\n")
    assert before == fingerprint(cook=cook, salt="AMOUNT = 1  # pinch\n")


def test_a_fingerprint_follows_imports_inside_functions_through_packages_and_in_circles(fingerprint):
    cook = "def cook():\n    from .cellar import pour\n    return pour()\n"
    wine = "from .. import cook\n\n\ndef pour():\n    return 2\n"
    assert fingerprint(cook=cook) != fingerprint(cook=cook, **{"cellar/wine": wine})


PRICE = ["../market/__init__", "../market/price", "../market/stalls/goods"]


@pytest.mark.parametrize(
    ("cook", "acting"),
    [
        ("import market", ["../market/__init__"]),
        ("from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    import market.price", PRICE),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import market.price", PRICE),
        ("from market import *", PRICE),
        ("import importlib\nimportlib.import_module('.price', 'market')", PRICE),
        ("from market import price", PRICE),
        ("import market.price", PRICE),
        ("from market.stalls.goods import *", ["../market/__init__", "../market/stalls/goods"]),
        ("def cook():\n    import market.price as p\n    return p", PRICE),
        ("try:\n    import market.price\nexcept ImportError:\n    pass", PRICE),
        ("try:\n    from market.nothing.more import price\nexcept ImportError:\n    pass", ["../market/__init__"]),
        ("import importlib\nprice = importlib.import_module('market.price')", PRICE),
    ],
)
def test_a_fingerprint_follows_imports_of_files_of_the_users_wherever_they_lie_and_of_no_others(
    fingerprint, cook, acting
):
    elsewhere = {
        "../market/__init__": "__all__ = ['price', 'nothing']\n",
        "../market/price": "from .stalls import goods\nPRICE = 2\n",
        "../market/stalls/goods": "GOODS = 3\n",  # stalls is a folder without __init__.py
    }
    before = fingerprint(cook=cook, **elsewhere)
    after = {file: fingerprint(cook=cook, **{**elsewhere, file: f"{text}A = 1"}) for file, text in elsewhere.items()}
    assert [file for file in elsewhere if after[file] != before] == acting


def test_the_package_in_which_a_module_lies_is_in_its_fingerprint(fingerprint):
    assert fingerprint() != fingerprint(__init__="from . import salt\n")
    assert fingerprint() == fingerprint(__init__='"""Words."""\n')


def test_a_module_of_the_users_that_is_named_as_one_of_pythons_is_in_a_fingerprint(tmp_path):
    (tmp_path / "script.py").write_text(
        "import statistics\nfrom methods.cache import keys\nprint(keys.fingerprint('__main__'))\n"
    )
    found = []
    for text in ("A = 1\nfmean = None\n", "A = 2\nfmean = None\n"):
        (tmp_path / "statistics.py").write_text(text)
        found.append(subprocess.check_output([sys.executable, "script.py"], text=True, cwd=tmp_path))
    assert found[0] != found[1]


@pytest.mark.parametrize("odd", [b"\xef\xbb\xbfA = 1\n", b"# coding: latin-1\nA = '\xe9'\n", b"A = (\n"])
def test_a_guarded_import_of_whatever_file_stops_nothing(fingerprint, tmp_path, odd):
    cook = "try:\n    import market.price\nexcept BaseException:\n    pass\n"
    before = fingerprint(cook=cook, **{"../market/__init__": "raise SystemExit\n"})
    (tmp_path / "market" / "__init__.py").write_bytes(odd)
    forget()
    assert keys.fingerprint("kitchen.cook") != before


def test_a_fingerprint_follows_a_module_that_is_imported_by_a_relative_name(fingerprint):
    cook = "import importlib\nsalt = importlib.import_module('.salt', __package__)\n"
    assert fingerprint(cook=cook) != fingerprint(cook=cook, salt="AMOUNT = 2\n")


@pytest.mark.parametrize("place", ["code = ('table.csv',)", "class Cook:\n    code: tuple = ('table.csv',)"])
def test_a_file_that_a_module_names_in_code_is_in_its_fingerprint(fingerprint, place):
    assert fingerprint(cook=place, **{"table.csv": "1"}) != fingerprint(cook=place, **{"table.csv": "2"})
    assert fingerprint(**{"table.csv": "1"}) == fingerprint(**{"table.csv": "2"})
    both = {"a/table.csv": "1", "b/table.csv": "1"}
    cook = "code = ('a/table.csv', 'b/table.csv')"
    for file in both:
        assert fingerprint(cook=cook, **both) != fingerprint(cook=cook, **{**both, file: "2"})
    for text in ("code: str = 'en'", "code = compile('1', 'x', 'eval')", "class Error(Exception):\n    code = 'E1'"):
        assert fingerprint(cook=text)
    with pytest.raises(keys.CodeError, match=r"cook\.py: code names .*chair\.csv, which cannot be read: No such file"):
        fingerprint(cook="code = ['chair.csv']")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with one file, as pip does."""
    installed = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(installed))

    def install(name: str, version: str, file: str, text: str, **about: str) -> None:
        for old in installed.glob(f"{name}-*.dist-info"):
            shutil.rmtree(old)
        info = installed / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(f"{file},,\n")
        for other, content in about.items():
            (info / f"{other}.json").write_text(content)
        (installed / file).parent.mkdir(exist_ok=True)
        (installed / file).write_text(text)

    return install


def test_of_an_installed_distribution_the_version_is_in_a_fingerprint(fingerprint, install):
    def with_spices(version: str, text: str, **about: str) -> str:
        install("hot_spices", version, "spices/__init__.py", text, **about)
        return fingerprint(cook="from spices import pepper\n")

    before = with_spices("1.0", "pepper = 1\n")
    assert keys.sources("kitchen.cook")["distribution hot_spices"] == "1.0"
    assert with_spices("1.0", "pepper = 2\n") == before
    assert with_spices("1.1", "pepper = 1\n") != before
    editable = {"direct_url": '{"url": "file:///there", "dir_info": {"editable": true}}'}
    assert with_spices("1.0", "pepper = 1\n", **editable) != with_spices("1.0", "pepper = 2\n", **editable)


def test_parts_of_a_package_without_a_file_of_its_own_may_come_from_anywhere(fingerprint, install):
    cook = "import acme.lib, acme.tool, acme.mine\n"
    mine = {"../acme/mine": "A = 1\n"}

    def with_parts(lib: str, tool: str) -> str:
        install("acme_lib", lib, "acme/lib.py", "")
        install("acme_tool", tool, "acme/tool.py", "")
        return fingerprint(cook=cook, **mine)

    before = with_parts("1.0", "1.0")
    assert before != fingerprint(cook=cook, **{"../acme/mine": "A = 2\n"})
    assert len({before, with_parts("2.0", "1.0"), with_parts("1.0", "2.0")}) == 3


def test_a_script_has_a_fingerprint(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from methods.cache import keys\nimport spoon\nprint(keys.fingerprint('__main__'))\n")
    outputs = []
    for text in ("SIZE = 1\n", "SIZE = 2\n"):
        (tmp_path / "spoon.py").write_text(text)
        outputs.append(subprocess.check_output([sys.executable, str(script)], text=True))
    assert outputs[0] != outputs[1]


def test_a_fingerprint_leaves_out_what_is_imported_for_type_checkers_alone(fingerprint):
    cook = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from .unused import AMOUNT\n"
    assert fingerprint(cook=cook) == fingerprint(cook=cook, unused="AMOUNT = 2\n")


def test_a_module_without_source_has_no_fingerprint():
    with pytest.raises(keys.CodeError, match=r"methods\.nothing"):
        keys.fingerprint("methods.nothing")


def test_what_is_none_is_off_and_leaves_no_trace_in_a_recipe():
    @dataclasses.dataclass(frozen=True)
    class Part:
        strength: float
        extra: float | None = None

    plain = keys.canonical(Part(0.5))
    assert plain["strength"] == 0.5
    assert set(plain) == {"is", "strength"}
    assert set(keys.canonical(Part(0.5, 0.0))) == {"is", "strength", "extra"}, "0 is a value"
    assert keys.canonical((Part(0.5), 1, "a")) == [plain, 1, "a"]


def test_two_kinds_of_objective_with_equal_fields_are_two_recipes():
    @dataclasses.dataclass(frozen=True)
    class Other(AssumeNegativeObjective):
        pass

    assert keys.canonical(AssumeNegativeObjective()) != keys.canonical(Other())


def test_a_digest_does_not_depend_on_order_and_refuses_what_json_has_no_word_for():
    assert keys.digest({"a": 1, "b": 0.1}) == keys.digest({"b": 0.1, "a": 1})
    assert len(keys.digest({})) == 64
    with pytest.raises(ValueError, match="JSON"):
        keys.digest(float("nan"))


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 2},
        {"data.draw": 0},
        {"data.mask_seed": 2},
        {"data.known": 0.6},
        {"data.labels": "full"},
        {"data.train_images": 41},
        {"network.frozen_blocks": 2},
        {"network.pretrain_epochs": 0},
        {"network.pooling": "max"},
        {"train.threads": 2},
    ],
    ids=str,
)
def test_another_seed_task_network_or_number_of_threads_is_another_key_from_the_start(changed):
    one, other = chain(), chain(**changed)
    assert not set(one) & set(other)


@pytest.mark.parametrize(
    "changed",
    [
        {"data.val_images": 17},
        {"data.test_images": 17},
        {"data.val_labels": "observed"},
        {"train.momentum": 0.5},
        {"train.step_factor": 0.5},
    ],
    ids=str,
)
def test_what_is_only_measured_and_what_does_not_act_change_no_key(changed):
    assert chain() == chain(**changed)


def test_the_seed_and_the_proportion_of_a_mask_change_no_key_where_there_is_no_mask():
    full = {"data.labels": "full"}
    assert chain(**full) == chain(**full, **{"data.mask_seed": 5, "data.known": 0.1})


def test_the_tail_of_annotations_changes_keys_and_the_metrics_record_where_there_is_one_and_nowhere_else():
    tail = {"data.annotated": 0.2, "data.tail_exponent": 0.5, "data.positive_bias": 2.0}
    assert chain(**tail) == chain()
    verified = {"data.labels": "human_verified"}
    for name, value in tail.items():
        one, other = (resolve(tiny("assume_negative", **verified, **more)) for more in ({}, {name: value}))
        assert not set(one.keys()) & set(other.keys())
        assert one.records().metrics != other.records().metrics


@pytest.mark.parametrize("regime", ["full", "single_positive", "proportion", "human_verified"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_where_more_images_to_measure_on_change_no_key_they_change_no_label_given_to_training(regime, split):
    given = tiny("assume_negative", **{"data.labels": regime, "data.annotated": 0.2})
    one, other = (resolve({**given, f"data.{split}_images": images}) for images in (16, 30))
    same = (data.load(one.data).observed == data.load(other.data).observed).all()
    assert same == ((regime, split) != ("human_verified", "val"))
    assert same == (one.keys() == other.keys())


def test_a_setting_that_is_declared_free_acts_on_nothing():
    @dataclasses.dataclass(frozen=True)
    class Free(Settings):
        workers: int = setting(1, result_free=True)
        measured: int = setting(1, evaluation_only=True)
        real: int = 1

    assert Free().acting() == {"real": 1}
    assert Free().acting(evaluation=True) == {"real": 1, "measured": 1}


@pytest.mark.parametrize("value", ["shift", 0.1, 32])
def test_epochs_share_their_keys_until_something_else_acts(value):
    field = {"shift": "train.augmentation", 0.1: "train.weight_decay", 32: "train.batch_size"}[value]
    one, other = chain(), chain(**{field: value})
    assert one[0] == other[0]
    assert not set(one[1:]) & set(other[1:])


def test_more_epochs_at_a_constant_rate_or_in_steps_continue_the_same_chain():
    for schedule in ("constant", "step"):
        short, long = (chain(**{"train.schedule": schedule, "train.epochs": epochs}) for epochs in (4, 9))
        assert long[:5] == short
        assert len(set(long)) == 10


def test_under_a_cosine_the_length_is_in_every_rate_but_the_first():
    short, long = (chain(**{"train.schedule": "cosine", "train.epochs": epochs}) for epochs in (4, 9))
    assert shared_epochs(short, long) == 1


def test_a_step_later_than_the_last_epoch_is_no_step():
    assert chain(**{"train.schedule": "step", "train.step_every": 4}) == chain()
    assert shared_epochs(chain(**{"train.schedule": "step", "train.step_every": 3}), chain()) == 3


def test_once_parted_two_chains_never_meet_again():
    plain, rejecting = AssumeNegativeObjective(), LargeLossObjective("reject", 0.1, "all", True)
    recipe = resolve(tiny("assume_negative")).recipe(1)
    first, second = (dataclasses.replace(recipe, objective=objective) for objective in (plain, rejecting))
    one, other = (keys.chain("start", recipes) for recipes in ([first, first, first], [first, second, first]))
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, True, False, False]


def test_a_change_to_one_methods_code_leaves_the_epochs_valid_in_which_it_does_not_act(monkeypatch):
    before = {method: chain(method) for method in ("assume_negative", "large_loss")}
    real = keys.fingerprint
    monkeypatch.setattr(keys, "fingerprint", lambda name: real(name) + "mended" * (name == "methods.large_loss"))
    keys.recipe_digest.cache_clear()
    after = {method: chain(method) for method in ("assume_negative", "large_loss")}
    keys.recipe_digest.cache_clear()
    assert after["assume_negative"] == before["assume_negative"]
    assert shared_epochs(after["large_loss"], before["large_loss"]) == 1


@pytest.mark.parametrize(
    "module", ["methods.evaluation.metrics", "methods.contract.schedules", "methods.training.registry"]
)
def test_a_change_to_what_measures_or_plans_changes_no_key(module, monkeypatch):
    before = chain("large_loss")
    real = keys._code
    monkeypatch.setattr(keys, "_code", lambda name: ("mended" if name == module else real(name)[0], *real(name)[1:]))
    for cached in (keys.fingerprint, keys.sources, keys.recipe_digest):
        cached.cache_clear()
    after = chain("large_loss")
    for cached in (keys.fingerprint, keys.sources, keys.recipe_digest):
        cached.cache_clear()
    assert after == before


def test_the_code_of_every_class_that_an_objective_inherits_from_is_in_its_key(monkeypatch):
    asked = []
    monkeypatch.setattr(keys, "fingerprint", lambda name: asked.append(name) or name)
    keys.recipe_digest.cache_clear()
    resolve(tiny("large_loss")).keys()
    keys.recipe_digest.cache_clear()
    assert {"methods.large_loss", "methods.assume_negative", Objective.__module__} <= set(asked)
