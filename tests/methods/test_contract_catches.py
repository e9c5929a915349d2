"""The contract test against methods that break the rule: each is caught, and for what it does."""

import importlib
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import pytest
from torch import Tensor, nn

from methods.assume_negative import AssumeNegative, AssumeNegativeObjective
from methods.cache import keys
from methods.contract.method import Method
from methods.contract.objective import Batch, InseparableError, Objective
from methods.contract.settings import Settings, setting
from methods.testing import purity, unseen_code
from methods.testing.purity import Kind
from methods.training.registry import methods, register, registered

pytestmark = pytest.mark.slow

strength_in_force = 1.0
steps_so_far = 0


@dataclass(frozen=True)
class LateStrengthObjective(AssumeNegativeObjective):
    """Names its strength from epoch 3 on, and takes it from elsewhere in every epoch."""

    named_strength: float | None = None

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        return strength_in_force * super().loss(batch, modules, state)


@dataclass(frozen=True)
class StrengthSettings(Settings):
    strength: float = setting(1.0, "factor of the loss", minimum=0, typical=(2.0,))


class LateStrength(Method):
    name = "dishonest_strength"
    source = "none"
    Settings = StrengthSettings

    def __init__(self, settings: StrengthSettings):
        global strength_in_force
        super().__init__(settings)
        strength_in_force = settings.strength

    def objective(self, epoch: int) -> Objective:
        return LateStrengthObjective(named_strength=self.settings.strength if epoch >= 3 else None)


@dataclass(frozen=True)
class GlobalDropoutObjective(AssumeNegativeObjective):
    """Drops features by torch's global generator."""

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        dropped = nn.functional.dropout(batch.features, p=0.3)
        return super().loss(Batch(dropped, batch.labels, batch.indices), modules, state)


class GlobalDropout(Method):
    name = "dishonest_randomness"
    source = "none"
    Settings = Settings
    unshared = "a test"

    def objective(self, epoch: int) -> Objective:
        return GlobalDropoutObjective()


@dataclass(frozen=True)
class CountingObjective(AssumeNegativeObjective):
    """Warms up over its steps, counted where no state holds them. `anew`: they are counted from here."""

    anew: bool | None = None

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        global steps_so_far
        steps_so_far = 1 if self.anew else steps_so_far + 1
        return min(steps_so_far / 1000, 1.0) * super().loss(batch, modules, state)


class Counting(Method):
    name = "dishonest_memory"
    source = "none"
    Settings = Settings
    unshared = "a test"

    def objective(self, epoch: int) -> Objective:
        return CountingObjective()


class CountingAnew(Method):
    """Right whenever a run is trained from its start to its end."""

    name = "dishonest_memory_of_a_run"
    source = "none"
    Settings = Settings
    unshared = "a test"

    def objective(self, epoch: int) -> Objective:
        return CountingObjective(anew=epoch == 1 or None)


class Decorative(Method):
    """Has a setting that does nothing."""

    name = "dishonest_decoration"
    source = "none"
    Settings = StrengthSettings

    def objective(self, epoch: int) -> Objective:
        return AssumeNegativeObjective()


@dataclass(frozen=True)
class TellingObjective(AssumeNegativeObjective):
    def report(self, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> dict[str, float]:
        return {"strength": 1.0, "weakness": 0.0}


class TellingMore(Method):
    """Reports a number that no figure could be asked for."""

    name = "dishonest_report"
    source = "none"
    Settings = Settings
    unshared = "a test"
    reports = {"strength": "strength of the loss"}  # noqa: RUF012

    def objective(self, epoch: int) -> Objective:
        return TellingObjective()


class ReportingLess(Method):
    """Names a report that never comes, and does not say what another one is."""

    name = "dishonest_promise"
    source = "none"
    Settings = Settings
    unshared = "a test"
    reports = {"strength": "", "weakness": "weakness of the loss", "doubt": "doubt"}  # noqa: RUF012

    def objective(self, epoch: int) -> Objective:
        return TellingObjective()


@dataclass(frozen=True)
class AloneObjective(AssumeNegativeObjective):
    """Acts from the first epoch on, and no other method has it."""


class Alone(Method):
    """Shares no epoch, and does not say why."""

    name = "dishonest_solitude"
    source = "none"
    Settings = Settings

    def objective(self, epoch: int) -> Objective:
        return AloneObjective()


@dataclass(frozen=True)
class WholeObjective(AssumeNegativeObjective):
    """A loss of the whole batch."""

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        return self.logits(batch.features, modules).mean().square() + super().loss(batch, modules, state)


class PartsThatAreNone(Method):
    """Inherits a `part_weight` which its loss does not have."""

    name = "dishonest_parts"
    source = "none"
    Settings = Settings
    unshared = "a test"

    def objective(self, epoch: int) -> Objective:
        return WholeObjective()


@dataclass(frozen=True)
class SilentObjective(AssumeNegativeObjective):
    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("")


class Silent(Method):
    """Does not say why its loss does not separate."""

    name = "dishonest_silence"
    source = "none"
    Settings = Settings
    unshared = "a test"

    def objective(self, epoch: int) -> Objective:
        return SilentObjective()


@dataclass(frozen=True)
class StartSettings(Settings):
    start_epoch: int = setting(30, "first epoch with a strength", minimum=1)


class Late(Method):
    """Acts too late for a kit that trains a few epochs, and has no `quick` settings."""

    name = "late"
    source = "none"
    Settings = StartSettings

    def objective(self, epoch: int) -> Objective:
        return LateStrengthObjective(named_strength=1.0 if epoch >= self.settings.start_epoch else None)


@dataclass(frozen=True)
class FileSettings(Settings):
    file: str = setting("none", "a text of which the kit knows no second value")


class OneValue(Method):
    name = "one_value"
    source = "none"
    Settings = FileSettings

    def objective(self, epoch: int) -> Objective:
        return AssumeNegativeObjective()


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        (LateStrength, {Kind.UNHASHED}),
        (GlobalDropout, {Kind.GLOBAL_RANDOMNESS, Kind.INSEPARABLE}),
        (Counting, {Kind.HIDDEN_MEMORY, Kind.INSEPARABLE}),
        (CountingAnew, {Kind.HIDDEN_MEMORY, Kind.INSEPARABLE}),
        (Decorative, {Kind.INERT}),
        (TellingMore, {Kind.UNNAMED_REPORT}),
        (ReportingLess, {Kind.MISSING_REPORT, Kind.UNTITLED_REPORT}),
        (Alone, {Kind.UNSHARED}),
        (PartsThatAreNone, {Kind.INSEPARABLE}),
        (Silent, {Kind.UNEXPLAINED}),
        (Late, {Kind.TOO_LATE}),
        (OneValue, {Kind.ONE_VALUE}),
    ],
)
def test_a_dishonest_method_is_caught_for_what_it_does(method, kinds):
    before = methods()
    assert {violation.kind for violation in purity.check(method)} == kinds
    assert methods() == before, "it was registered while it was tried"


def test_an_honest_method_is_not_caught():
    assert not purity.check(AssumeNegative)


@dataclass(frozen=True)
class CopiedSettings(Settings):
    label_smoothing: float = setting(0.1, "smoothing", minimum=0, typical=(0.2,), source="Some release, losses.py:12")
    weak: bool = setting(False, "weak", published=True, source="Some release: true")
    eps: float = setting(0.01, "added to p", published=2.0, minimum=0, maximum=0.1, source="Some paper, Eq. 3: 2")


class Copied(Method):
    """Cites a release without its value, and a paper with a value that is not allowed."""

    name = "dishonest_citation"
    source = "none"
    Settings = CopiedSettings
    unshared = "a test"

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        return AssumeNegativeObjective(s.weak or None, s.label_smoothing, s.eps or None)


def test_a_setting_that_cites_a_release_without_its_value_is_caught_and_a_published_value_that_is_not_allowed():
    assert purity.check(Copied) == [
        (Kind.UNPUBLISHED, "dishonest_citation, label_smoothing: Some release, losses.py:12"),
        (
            Kind.REFUSED,
            "dishonest_citation, eps: 2.0 is not allowed; allowed is a number at least 0 and at most 0.1",
        ),
    ]


class NoSource(Method):
    name = "no_source"
    Settings = Settings
    reports = ("strength",)

    def objective(self, epoch: int) -> Objective:
        return AssumeNegativeObjective()


def test_a_class_that_lacks_what_a_method_needs_is_refused_in_one_line_that_says_where_it_is():
    with pytest.raises(
        TypeError, match=r"test_contract_catches.py:\d+: method NoSource needs source = a text, reports ="
    ):
        register(NoSource)
    assert "no_source" not in methods()


def test_a_name_is_that_of_one_method():
    class Other(AssumeNegative):
        pass

    with pytest.raises(
        TypeError, match=r"test_contract_catches.py:\d+: a method is called 'assume_negative' already: "
    ):
        register(Other)
    with registered(AssumeNegative):
        pass
    assert methods()["assume_negative"] is AssumeNegative


FROM_A_FILE = """
import importlib
from dataclasses import dataclass
from pathlib import Path
from methods.assume_negative import AssumeNegative, AssumeNegativeObjective
{code}
@dataclass(frozen=True)
class Objective(AssumeNegativeObjective):
    pass
class FromAFile(AssumeNegative):
    name = "from_a_file"
    def objective(self, epoch):
        return Objective()
"""


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import price", None),
        ("price = importlib.import_module('price')", None),
        (
            "price = importlib.import_module('pri' + 'ce')",
            r"py:6: importlib.import_module\('pri' \+ 'ce'\) exe",
        ),
        ("code = ('price.py',)\nprice = importlib.import_module('pri' + 'ce')", None),
        ("exec('price = 1')", r"from_a_file\.py:6: exec\('price = 1'\) executes code that keys do not see"),
        ("TABLE = (Path(__file__).parent / 'table.txt').read_text()", r"reads .*table\.txt when it is imported"),
        ("code = ('table.txt',)\nTABLE = (Path(__file__).parent / 'table.txt').read_text()", None),
    ],
)
def test_code_and_files_that_keys_do_not_see_are_named(tmp_path, monkeypatch, code, found):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "price.py").write_text("PRICE = 1\n")
    (tmp_path / "table.txt").write_text("1 2 3")
    (tmp_path / "from_a_file.py").write_text(FROM_A_FILE.format(code=code))
    for cached in [*vars(keys).values(), unseen_code._read_on_import]:
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    monkeypatch.delitem(sys.modules, "from_a_file", raising=False)
    importlib.invalidate_caches()
    method = importlib.import_module("from_a_file").FromAFile
    with registered(method):
        violations = purity.code_violations(method.name)
    if found is None:
        assert not violations
    else:
        ((kind, where),) = violations
        assert kind == Kind.UNSEEN and re.search(found, where), where
