"""The contract test against methods that break the rule: each is caught, and for what it does."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

import pytest
from torch import Tensor, nn

from methods.assume_negative import AssumeNegativeObjective
from methods.contract.method import Method
from methods.contract.objective import Batch, Objective
from methods.contract.settings import Settings, setting
from methods.training.registry import methods
from tests.methods import tiny
from tests.methods.tiny import Kind

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
    Settings = Settings

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
    Settings = Settings

    def objective(self, epoch: int) -> Objective:
        return CountingObjective()


class CountingAnew(Method):
    """Right whenever a run is trained from its start to its end."""

    name = "dishonest_memory_of_a_run"
    Settings = Settings

    def objective(self, epoch: int) -> Objective:
        return CountingObjective(anew=epoch == 1 or None)


class Decorative(Method):
    """Has a setting that does nothing."""

    name = "dishonest_decoration"
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
    Settings = Settings
    reports = ("strength",)

    def objective(self, epoch: int) -> Objective:
        return TellingObjective()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    dishonest = (LateStrength, GlobalDropout, Counting, CountingAnew, Decorative, TellingMore)
    monkeypatch.setattr(
        "methods.training.config.methods", lambda: {**methods(), **{method.name: method for method in dishonest}}
    )


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (LateStrength, Kind.UNHASHED),
        (GlobalDropout, Kind.GLOBAL_RANDOMNESS),
        (Counting, Kind.HIDDEN_MEMORY),
        (CountingAnew, Kind.HIDDEN_MEMORY),
        (Decorative, Kind.INERT),
        (TellingMore, Kind.UNNAMED_REPORT),
    ],
)
def test_a_dishonest_method_is_caught_for_what_it_does(method, kind):
    assert {violation.kind for violation in tiny.violations(method.name)} == {kind}
    with pytest.raises(AssertionError, match=kind):
        tiny.assert_pure(method.name)


def test_an_honest_method_is_not_caught():
    tiny.assert_pure("assume_negative")
