"""A sweep's record says how its settings and metrics are printed."""

from dataclasses import dataclass

import pytest

from methods.assume_negative import AssumeNegativeObjective
from methods.contract.method import Method
from methods.contract.settings import Settings, setting
from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.training.registry import methods, registered
from sweeper.spaces import space
from sweeper.spaces.reading import load_space
from sweeper.spaces.vocabulary import titles


@dataclass(frozen=True)
class OtherSettings(Settings):
    delta_rel: float = setting(1.0, "not what Large Loss means", title="δ")
    mode: str = setting("a", "no title, but values with names", values={"a": "the first"})


class Other(Method):
    name = "other"
    source = "a test"
    Settings = OtherSettings
    reports = {"alpha": "another share, α"}  # noqa: RUF012

    def objective(self, epoch):
        return AssumeNegativeObjective()


def test_what_a_method_and_all_methods_declare_is_there_by_dotted_name():
    found = titles(["large_loss", "sarb"])
    assert found["settings"]["delta_rel"] == {"title": "Δrel", "unit": "percent per epoch", "values": {}}
    assert found["settings"]["data.known"] == {"title": "known proportion", "unit": "%", "values": {}}
    assert found["settings"]["train.linear_init"]["values"]["first_epochs"] == "LinearInit"
    assert "train.epochs" not in found["settings"], "it has no title"
    assert found["metrics"]["train/alpha"] == "learned share of the own feature, α"
    assert found["metrics"]["memorization/tp_loss"] == "mean loss of training labels, TP"


def test_what_only_other_methods_declare_is_not():
    found = titles(["assume_negative"])
    assert "delta_rel" not in found["settings"]
    assert not any(name.startswith("train/") for name in found["metrics"])


def test_a_name_that_two_methods_use_for_different_things_has_no_title():
    with registered(Other):
        found = titles(["large_loss", "other", "sarb"])
        assert "delta_rel" not in found["settings"] and "train/alpha" not in found["metrics"]
        assert found["settings"]["mode"] == {"title": "", "unit": "", "values": {"a": "the first"}}
        assert titles(["other"])["settings"]["delta_rel"]["title"] == "δ"


@pytest.mark.parametrize("method", methods())
def test_every_report_and_every_diagnostic_is_printed_under_a_name_of_its_own(method):
    found = titles([method])["metrics"]
    assert {f"train/{name}" for name in methods()[method].reports} <= found.keys()
    assert {f"{diagnostic}/{name}" for diagnostic, names in DIAGNOSTICS.items() for name in names} <= found.keys()
    assert len(set(found.values())) == len(found)


def test_titles_are_in_the_record_and_not_in_what_names_the_sweep(tmp_path, monkeypatch):
    path = tmp_path / "small.yaml"
    path.write_text("variants:\n  LL-R: {method: large_loss}\nseeds: [1]\n")
    one = load_space(path)
    assert one.resolved()["titles"] == titles(["large_loss"]) and one.sweep
    monkeypatch.setattr(space, "titles", lambda used: {"settings": {}, "metrics": {}})
    other = load_space(path)
    assert other.resolved()["titles"] == {"settings": {}, "metrics": {}}
    assert other.sweep == one.sweep
