"""`plan --explain-key`: what keys are made of, and in what two trials differ."""

from __future__ import annotations

import pytest

from sweeper.cli import main
from sweeper.planning.explain import NoTrialError, explain
from sweeper.spaces.reading import load_space

SPACE = """
data: {train_images: 100}
network: {pretrain_epochs: 0}
train: {epochs: 3}
variants: {AN: {method: assume_negative}, LL: {method: large_loss}, Same: {method: large_loss}}
axes: {delta_rel: [0.4]}
seeds: [1, 2]
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "small.yaml").write_text(SPACE)
    return load_space(tmp_path / "small.yaml")


def test_of_one_trial_it_says_what_is_in_each_key_settings_code_and_versions(space):
    lines = list(explain(space, ["LL delta_rel=0.4 seed=1"]))
    first, second = lines.index(f"key[0] {space.trials[1].keys[0]}"), lines.index(f"key[1] {space.trials[1].keys[1]}")
    start = lines[first:second]
    assert "  + data.train_images = 100" in start and "  + seed = 1" in start
    assert any(line.startswith("  + module methods.training.loop = ") for line in start)
    assert any(line.startswith("  + distribution torch = ") for line in start)
    assert '  + objective.is = "methods.assume_negative.AssumeNegativeObjective"' in lines[second:]
    assert any(line.startswith("  + module methods.large_loss = ") for line in lines[second:])


def test_of_two_trials_it_says_in_what_the_first_keys_that_differ_do(space):
    lines = list(explain(space, ["AN seed=1", "LL delta_rel=0.4 seed=1"]))
    assert lines[2] == "key[2] differs:"
    assert "  + objective.fraction = 0.0040000000000000036" in lines
    assert not any("data." in line for line in lines)
    assert list(explain(space, ["AN seed=1", "AN seed=2"]))[2:] == [
        "key[0] differs:",
        "  - seed = 1",
        "  + seed = 2",
    ]
    both = ["LL delta_rel=0.4 seed=1", "Same delta_rel=0.4 seed=1"]
    assert list(explain(space, both))[2:] == ["equal keys in all 3 epochs"]


def test_a_trial_that_is_not_there_is_bad_input(space, tmp_path, capsys):
    with pytest.raises(NoTrialError, match=r"--explain-key AN: no trial of small; allowed is an id or a title: "):
        list(explain(space, ["AN"]))
    with pytest.raises(NoTrialError, match=r"3 trials were given; allowed is one, or two"):
        list(explain(space, [space.trials[0].id] * 3))
    command = ["plan", "--explain-key", "AN", str(tmp_path / "small.yaml")]
    assert main(command) == 2
    assert capsys.readouterr().err.startswith("error: --explain-key AN: no trial of small")
    both = [part for trial in space.trials[:2] for part in ("--explain-key", trial.id)]
    assert main(["plan", *both, str(tmp_path / "small.yaml")]) == 0
    assert "key[2] differs:" in capsys.readouterr().out
