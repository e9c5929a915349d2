"""LinearInit: first epochs in which the backbone is frozen, as epochs of the method or as a run of their own."""

import copy
import itertools

import pytest
import torch
from torch import nn

from methods.assume_negative import AssumeNegativeObjective
from methods.cache.keys import canonical
from methods.training import features
from methods.training.config import Config, resolve
from tests.methods import tiny
from tests.methods.tiny import shared_epochs

READINGS = ("first_epochs", "separate")


def config(reading: str, method: str = "large_loss", **values) -> Config:
    linear = {"train.linear_init": reading, "train.linear_epochs": 2}
    return resolve({**tiny.tiny(method), **linear, **values})


def backbone(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith("module/backbone/")}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
@pytest.mark.parametrize("augmentation", ["none", "shift"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_backbone_is_the_same_to_the_bit_until_the_linear_phase_ends(reading, batch_norm, augmentation, optimizer):
    others = {"network.batch_norm": batch_norm, "train.augmentation": augmentation, "train.optimizer": optimizer}
    # With a weight decay even a gradient of 0 would move it.
    states = tiny.run(config(reading, **others, **{"train.weight_decay": 0.1})).states
    assert backbone(states[0])
    for before, after in itertools.pairwise(states[:3]):
        assert not tiny.different(backbone(before), backbone(after))
        assert not any(name.startswith("optimizer/backbone/") for name in after)
        assert tiny.different(before, after), "the head is trained"
    for before, after in itertools.pairwise(states[2:]):
        weights = [name for name in backbone(before) if name.endswith("0.weight")]
        assert not any(torch.equal(before[name], after[name]) for name in weights)
        assert any(name.startswith("optimizer/backbone/") for name in after)


def test_the_recipe_says_what_is_frozen_and_nothing_where_nothing_is():
    plain = resolve(tiny.tiny("large_loss"))
    for reading in READINGS:
        frozen = [canonical(config(reading).recipe(epoch)) for epoch in (1, 2)]
        assert all("learning_rate_backbone" not in recipe for recipe in frozen)
        assert config(reading).recipe(3).learning_rate_backbone == plain.recipe(3).learning_rate_backbone
    assert all("optimizer_restarts" not in canonical(plain.recipe(epoch)) for epoch in (1, 2, 3))


def test_settings_of_a_linear_phase_change_no_key_where_there_is_none_or_it_does_not_have_them():
    plain = tiny.tiny("large_loss")
    numbers = {"train.linear_batch_size": 8, "train.linear_learning_rate": 0.5}
    assert resolve({**plain, **numbers, "train.linear_epochs": 3}).keys() == resolve(plain).keys()
    assert config("first_epochs", **numbers).keys() == config("first_epochs").keys()
    assert not set(config("separate", **numbers).keys()[1:]) & set(config("separate").keys()[1:])


def test_first_epochs_are_epochs_of_the_method():
    linear, plain = config("first_epochs"), resolve(tiny.tiny("large_loss"))
    for epoch in range(1, 5):
        frozen, trained = linear.recipe(epoch), plain.recipe(epoch)
        assert frozen.objective == trained.objective
        assert frozen.learning_rate_head == trained.learning_rate_head
        assert (frozen.batch_size, frozen.augmentation) == (trained.batch_size, trained.augmentation)
        assert (frozen == trained) == (epoch > 2)


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_after_a_separate_phase_the_method_starts_at_its_epoch_1_and_with_a_new_optimiser(schedule):
    own = {"train.schedule": schedule, "train.augmentation": "shift"}
    linear, plain = config("separate", **own, **{"train.epochs": 6}), resolve(tiny.tiny("large_loss", **own))
    first = linear.recipe(1)
    assert first == linear.recipe(2)
    assert first.objective == AssumeNegativeObjective(), "nothing is rejected in epoch 1 of the method"
    assert (first.batch_size, first.augmentation, first.learning_rate_head) == (16, None, 1e-3)
    assert config("separate", **own, **{"train.classifier_multiplier": 10.0}).recipe(1) == first
    mine = [canonical(linear.recipe(epoch)) for epoch in range(3, 7)]
    assert mine[0].pop("optimizer_restarts") is True
    assert mine == [canonical(plain.recipe(epoch)) for epoch in range(1, 5)]


def test_a_new_optimiser_counts_its_steps_from_0_and_one_that_goes_on_does_not():
    steps = {
        reading: [
            [state[f"optimizer/{name}/step"].item() for name in ("classifier/linear.weight", "backbone/4.0.weight")]
            for state in tiny.run(config(reading, **{"train.linear_batch_size": 40})).states[3:]
        ]
        for reading in READINGS
    }
    assert steps == {"first_epochs": [[9, 3], [12, 6]], "separate": [[3, 3], [6, 6]]}


def test_trials_share_a_separate_phase_whatever_follows_it():
    base = config("separate", **{"train.epochs": 6}).keys()
    later = [
        ({"delta_rel": 1.0}, 3),  # in its epoch 1 nothing is rejected, whatever the share later
        ({"train.learning_rate": 1e-4}, 2),
        ({"train.batch_size": 8}, 2),
        ({"train.augmentation": "shift"}, 2),
        ({"train.schedule": "cosine"}, 3),
    ]
    for values, shared in later:
        assert shared_epochs(base, config("separate", **{"train.epochs": 6, **values}).keys()) == shared
    assert shared_epochs(base, config("separate", "assume_negative", **{"train.epochs": 6}).keys()) == 3
    longer = {"train.epochs": 7, "train.linear_epochs": 3}
    assert shared_epochs(base, config("separate", **longer).keys()) == 2


def test_trials_share_frozen_first_epochs_as_they_share_others():
    base = config("first_epochs", **{"train.linear_epochs": 1}).keys()
    assert shared_epochs(base, config("first_epochs").keys()) == 1
    assert shared_epochs(base, config("first_epochs", "assume_negative", **{"train.linear_epochs": 1}).keys()) == 1
    assert shared_epochs(base, config("first_epochs", **{"train.backbone_multiplier": 0.5}).keys()) == 1


def test_a_linear_phase_may_be_all_there_is():
    for reading in READINGS:
        result = tiny.run(config(reading, **{"train.linear_epochs": 9, "train.schedule": "cosine"}))
        assert len(result.metrics) == 4
        assert not tiny.different(backbone(result.states[0]), backbone(result.states[-1]))


@pytest.mark.parametrize("reading", READINGS)
def test_head_and_label_estimates_of_a_linear_phase_are_what_the_epochs_after_it_start_from(reading):
    # At next to no learning rate the first of them shows where it starts.
    still = {"train.schedule": "step", "train.step_every": 2, "train.step_factor": 1e-9}
    if reading == "separate":
        still = {"train.learning_rate": 1e-12}
    states = tiny.run(config(reading, "role", **still)).states
    for name in ("module/estimator/logits", "module/classifier/linear.weight"):
        torch.testing.assert_close(states[3][name], states[2][name], rtol=1e-6, atol=1e-6)
        assert not torch.allclose(states[2][name], states[1][name], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("threads", [1, 2])
def test_epochs_of_a_linear_phase_are_pure(reading, threads):
    assert not tiny.run_violations(config(reading, **{"train.threads": threads, "network.frozen_blocks": 2}))


@pytest.mark.parametrize("reading", READINGS)
def test_features_of_the_frozen_backbone_are_made_once_for_all_epochs_and_trials(reading, monkeypatch):
    forwards = []
    real = nn.Sequential.forward

    def counted(self, images):
        forwards.append(len(images))
        return real(self, images)

    features.prepare.cache_clear()
    trial = tiny.new_training(config(reading))
    state = trial.initial_state()
    state, _ = trial.advance(state, 1)
    other = tiny.new_training(config(reading, "assume_negative"))
    monkeypatch.setattr(nn.Sequential, "forward", counted)
    trial.advance(state, 2)
    other.advance(other.initial_state(), 1)
    assert not forwards
    trial.advance(trial.advance(state, 2)[0], 3)
    assert forwards


def test_features_of_other_weights_are_other_features():
    training = tiny.new_training(config("first_epochs"))
    ready = training.feature_cache
    one, other = copy.deepcopy(ready.tail).eval(), copy.deepcopy(ready.tail).eval()
    with torch.no_grad():
        other[0][0].weight.mul_(2)
    first = ready.tail_features(one, "train")
    assert first.shape == (40, 64, 6, 6) and not first.requires_grad
    assert ready.tail_features(one, "train") is first
    assert not torch.equal(ready.tail_features(other, "train"), first)
    assert torch.equal(ready.tail_features(one, "train"), first)
