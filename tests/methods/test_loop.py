"""What an objective is handed: learning rates of its own, and all training images before the first step."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from methods.assume_negative import AssumeNegativeObjective
from methods.cache.keys import canonical
from methods.contract.method import Method
from methods.contract.objective import Objective
from methods.contract.settings import Settings
from methods.training import registry
from methods.training.config import resolve
from methods.training.loop import over_split
from methods.training.platforms import deterministic
from tests.methods import tiny

seen: list[dict] = []


class Offset(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


@dataclass(frozen=True)
class TwoRatesObjective(AssumeNegativeObjective):
    """Assume negative, and beside it a number that has a rate of its own and a gradient of 1."""

    multiplier: float | None = None

    def modules(self, features, task):
        return {**super().modules(features, task), "offset": Offset}

    def rate_multipliers(self):
        return {} if self.multiplier is None else {"offset": self.multiplier}

    def loss(self, batch, modules, state):
        return super().loss(batch, modules, state) + modules["offset"].weight.sum()


@dataclass(frozen=True)
class LookingObjective(AssumeNegativeObjective):
    """Writes down what it sees before the first step, and what it keeps of it."""

    def begin_epoch(self, start, modules, state):
        means = start.over_training(lambda features, _: features.mean((2, 3)))
        logits = start.over_training(lambda features, _: self.logits(features, modules))
        rows = start.over_training(lambda _, rows: rows)
        draw = torch.rand(3, generator=start.generator)
        training = any(part.training for part in modules.values())
        seen.append({"means": means, "logits": logits, "rows": rows, "draw": draw, "training": training})
        state["means"] = means

    def loss(self, batch, modules, state):
        seen.append({"means": state["means"].clone(), "training": modules["classifier"].training})
        return super().loss(batch, modules, state)


@dataclass(frozen=True)
class TellingObjective(AssumeNegativeObjective):
    """Writes down what a step sees, and reports a number of its own."""

    def loss(self, batch, modules, state):
        draws = [torch.rand(2, generator=batch.generator(purpose)) for purpose in ("one", "one", "other")]
        same, brighter = batch.features_of(lambda images: images), batch.features_of(lambda images: images + 0.5)
        parts = {"features": batch.features, "same": same, "brighter": brighter, "rows": batch.indices}
        seen.append({"progress": batch.progress, "draws": draws, **{name: p.detach() for name, p in parts.items()}})
        return super().loss(batch, modules, state)

    def report(self, modules, state):
        return {"steps": float(len(seen)), "bias": modules["classifier"].linear.bias.sum().item()}


def method(objective: Objective) -> type[Method]:
    class Given(Method):
        name = "given"
        Settings = Settings

        def objective(self, epoch):
            return objective

    return Given


@pytest.fixture
def config(monkeypatch):
    """The configuration under which a given objective acts in every epoch."""

    def of(objective: Objective, **values):
        monkeypatch.setitem(registry._registered(), "given", method(objective))
        seen.clear()
        return resolve(tiny.tiny("given", **values))

    return of


def test_a_rate_of_its_own_is_in_the_recipe_as_the_exact_product(config):
    recipe = config(TwoRatesObjective(multiplier=3.0), **{"train.learning_rate": 0.1}).recipe(1)
    assert recipe.learning_rates_own == (("offset", 0.3),), "not 0.30000000000000004"
    assert recipe.learning_rate_head == 0.1


def test_it_follows_the_schedule_and_the_base_rate_but_not_the_multiplier_of_the_head(config):
    values = {"train.schedule": "step", "train.classifier_multiplier": 5.0, "train.learning_rate": 0.01}
    given = config(TwoRatesObjective(multiplier=10.0), **values)
    assert [given.recipe(epoch).learning_rates_own for epoch in (1, 2, 3)] == [
        (("offset", 0.1),), (("offset", 0.1),), (("offset", 0.01),)
    ]  # fmt: skip


def test_an_objective_without_rates_of_its_own_leaves_no_trace_of_them_in_its_key(config):
    recipe = config(TwoRatesObjective()).recipe(1)
    assert recipe.learning_rates_own is None
    assert "learning_rates_own" not in canonical(recipe)


@pytest.mark.parametrize(("optimizer", "first"), [("adam", 1), ("sgd", 1), ("rmsprop", 1 / (1 + 0.1**0.5))])
@pytest.mark.parametrize(("multiplier", "rate"), [(None, 0.02), (0.5, 0.005)])
def test_a_module_is_trained_at_its_own_rate_or_else_at_that_of_the_head(config, optimizer, first, multiplier, rate):
    values = {
        "train.epochs": 1,
        "train.batch_size": 40,  # one step
        "train.learning_rate": 0.01,
        "train.classifier_multiplier": 2.0,
        "train.optimizer": optimizer,
    }
    trained = tiny.run(config(TwoRatesObjective(multiplier=multiplier), **values))
    # From 0 along a gradient of 1, a first step is as long as the rate under Adam and SGD.
    assert trained.states[1]["module/offset/weight"].item() == pytest.approx(-rate * first, rel=1e-6)


def test_an_objective_sees_all_training_images_before_the_first_step_under_the_weights_it_starts_from(config):
    given = config(LookingObjective(), **{"train.augmentation": "shift", "network.batch_norm": "train"})
    training = tiny.new_training(given)
    before = training.advance(training.initial_state(), 1)[0]
    seen.clear()
    training.advance(before, 2)
    first, *steps = seen
    with deterministic(given.train.threads):
        parts = training.config.recipe(2), training.task, training.feature_cache, given.seed, "train"
        expected = over_split(before, *parts, parts[0].objective.logits)
    np.testing.assert_array_equal(first["logits"], expected)
    assert first["means"].shape == (40, training.feature_cache.feature_map.width)
    assert first["rows"].tolist() == list(range(40))
    assert not first["training"]
    assert not first["logits"].requires_grad
    assert len(steps) == 3
    assert all(step["training"] for step in steps)
    assert all(torch.equal(step["means"], first["means"]) for step in steps)


def test_what_it_draws_there_depends_on_seed_and_epoch_alone(config):
    draws = {}
    for seed in (1, 2):
        for disturbance in (1, 2):
            tiny.run(config(LookingObjective(), seed=seed), disturbance)
            draws[seed, disturbance] = [tuple(each["draw"].tolist()) for each in seen if "draw" in each]
    assert draws[1, 1] == draws[1, 2]
    assert draws[2, 1] == draws[2, 2]
    assert len({*draws[1, 1], *draws[2, 1]}) == 8, "another one in each of four epochs"


def test_a_step_knows_how_far_the_epoch_has_come(config):
    tiny.run(config(TellingObjective(), **{"train.epochs": 1}))
    assert [step["progress"] for step in seen] == [0.0, 1 / 3, 2 / 3]


def test_what_a_step_draws_depends_on_seed_epoch_step_and_purpose_alone(config):
    tiny.run(config(TellingObjective(), **{"train.epochs": 2}))
    one, again, other = zip(*(step["draws"] for step in seen), strict=True)
    assert all(map(torch.equal, one, again))
    different = {tuple(draw.tolist()) for draw in (*one, *other)}
    assert len(different) == 2 * 6, "two purposes in six steps"
    tiny.run(config(TellingObjective(), **{"train.epochs": 2}), disturbance=1)
    assert all(map(torch.equal, one, (step["draws"][0] for step in seen[6:])))


@pytest.mark.parametrize("values", [{}, {"train.augmentation": "shift"}, {"train.linear_init": "first_epochs"}])
def test_changed_images_are_those_that_the_step_saw(config, values):
    tiny.run(config(TellingObjective(), **{"train.epochs": 1, **values}))
    for step in seen:
        torch.testing.assert_close(step["same"], step["features"])
        assert not torch.equal(step["brighter"], step["features"])


def test_what_an_objective_reports_stands_beside_the_loss(config):
    trained = tiny.run(config(TellingObjective(), **{"train.epochs": 2}))
    assert [epoch["train/steps"] for epoch in trained.metrics] == [3.0, 6.0]
    biases = [state["module/classifier/linear.bias"].sum().item() for state in trained.states[1:]]
    assert [epoch["train/bias"] for epoch in trained.metrics] == biases


def steps_of(given):
    """The rows of each step of two epochs, and the whole record of the run."""
    trained = tiny.run(given)
    return [step["rows"].tolist() for step in seen], trained


def test_drop_last_leaves_out_the_smaller_batch_of_each_epoch_and_moves_no_other(config):
    values = {"train.epochs": 2, "train.augmentation": "shift"}
    kept, whole = steps_of(config(TellingObjective(), **values))
    features = [step["features"] for step in seen]
    dropped, shorter = steps_of(config(TellingObjective(), **values, **{"train.drop_last": True}))
    assert [len(rows) for rows in kept] == 2 * [16, 16, 8]
    assert dropped == [rows for rows in kept if len(rows) == 16]
    assert [step["progress"] for step in seen] == 2 * [0.0, 0.5], "shares of the steps that there are"
    # Up to the step that is left out, training is the same.
    assert all(torch.equal(step["features"], other) for step, other in zip(seen[:2], features, strict=False))
    assert tiny.different(whole.states[1], shorter.states[1])


def test_the_loss_is_the_mean_over_the_images_of_the_steps_that_there_are(config, monkeypatch):
    monkeypatch.setattr(TellingObjective, "loss", lambda self, batch, modules, state: by_rows(batch, modules))
    for drop_last, images in ((False, 40), (True, 32)):
        seen.clear()
        given = config(TellingObjective(), **{"train.epochs": 1, "train.drop_last": drop_last})
        loss = tiny.run(given).metrics[0]["train/loss"]
        rows = [row for step in seen for row in step]
        assert len(rows) == images
        assert loss == pytest.approx(sum(rows) / images)


def by_rows(batch, modules):
    """A loss whose value is the mean of the rows of its batch, whatever the weights."""
    seen.append(batch.indices.tolist())
    return batch.indices.double().mean() + 0.0 * modules["classifier"](batch.features).sum()


def test_batches_that_divide_the_images_and_an_only_batch_are_not_dropped(config):
    for size, steps in ((8, 5), (40, 1), (64, 1)):
        values = {"train.epochs": 1, "train.batch_size": size}
        kept, whole = steps_of(config(TellingObjective(), **values))
        same, other = steps_of(config(TellingObjective(), **values, **{"train.drop_last": True}))
        assert same == kept
        assert len(same) == steps
        assert not tiny.different(whole.states[1], other.states[1])


def test_drop_last_is_in_the_recipe_where_it_is_on_and_leaves_no_trace_where_it_is_off(config):
    on = config(TellingObjective(), **{"train.drop_last": True}).recipe(1)
    off = config(TellingObjective()).recipe(1)
    assert (on.drop_last, off.drop_last) == (True, None)
    assert "drop_last" in canonical(on)
    assert "drop_last" not in canonical(off)
