"""Training from Python: what `fit` returns, how it fails, and what is made only once."""

import math

import numpy as np
import pytest
import torch

from methods import fit
from methods.assume_negative import AssumeNegativeObjective
from methods.cache import store
from methods.contract.settings import SettingError
from methods.evaluation.metrics import GROUP_METRICS, METRICS, average_precision, evaluate
from methods.networks.digit_conv import DigitConv
from methods.training import features, loop
from methods.training.config import resolve
from methods.training.fit import Training
from methods.training.loop import NotFiniteError
from tests.methods import tiny

SETTINGS = tiny.TINY
TRAINED = {"train/loss", "train/images", "train/known_labels", "train/parameters"}


@pytest.fixture
def pretrainings(monkeypatch):
    """The (images, epochs) of each pre-training so far, and no memory of what was prepared before the test."""
    calls = []
    real = DigitConv.initial_weights

    def noted(self):
        calls.append((self._images, self._epochs))
        return real(self)

    monkeypatch.setattr(DigitConv, "initial_weights", noted)
    features.prepare.cache_clear()
    return calls


def test_fit_returns_the_configuration_the_metrics_of_every_epoch_and_the_last_state(tmp_path):
    reported = []
    settings = {**SETTINGS, "delta_rel": 30, "scheme": "correct_permanent"}
    result = fit(
        "large_loss",
        settings,
        seed=3,
        cache_folder=tmp_path,
        on_epoch=lambda epoch, metrics: reported.append((epoch, metrics)),
    )
    assert result.config == resolve({**settings, "method": "large_loss", "seed": 3})
    expected = TRAINED | {f"{split}/{name}" for split in ("val", "test") for name in (*METRICS, "images")}
    assert [set(metrics) for metrics in result.history] == [expected] * 4
    assert all(isinstance(value, float) for metrics in result.history for value in metrics.values())
    assert reported == list(enumerate(result.history, start=1))
    assert {name.partition("/")[0] for name in result.state} == {"module", "optimizer", "method"}
    assert all(isinstance(tensor, torch.Tensor) and not tensor.requires_grad for tensor in result.state.values())


def test_training_lowers_the_loss_and_ranks_its_own_images_better_than_chance(tmp_path):
    settings = {**SETTINGS, "data.labels": "full", "train.epochs": 30, "train.learning_rate": 0.01}
    result = fit("assume_negative", settings, cache_folder=tmp_path)
    assert result.history[-1]["train/loss"] < 0.5 * result.history[0]["train/loss"]
    assert all(0 <= metrics["test/map"] <= 100 for metrics in result.history)


def test_epochs_one_by_one_are_those_of_fit(tmp_path):
    result = fit("assume_negative", SETTINGS, seed=1, cache_folder=tmp_path)
    trained = tiny.run(resolve({**SETTINGS, "method": "assume_negative"}))
    assert not tiny.different(result.state, trained.states[-1])
    assert [metrics["train/loss"] for metrics in result.history] == [m["train/loss"] for m in trained.metrics]


def test_metrics_are_those_of_the_scores_on_the_labels_asked_for(tmp_path):
    masks = {"data.val_images": 40, "data.known": 0.9}
    clean, observed = (
        fit("assume_negative", {**SETTINGS, **masks, "data.val_labels": labels}, cache_folder=tmp_path)
        for labels in ("clean", "observed")
    )
    for one, other in zip(clean.history, observed.history, strict=True):
        assert one["val/map"] != other["val/map"]
        assert one["test/map"] == other["test/map"]
        assert one["train/loss"] == other["train/loss"]
    assert set(METRICS) == set(evaluate([[0.5]], [[1]]))


def test_classes_are_grouped_by_their_annotations_under_human_verified_labels_and_no_others(tmp_path):
    verified = {**SETTINGS, "data.labels": "human_verified", "data.annotated": 0.2, "data.test_images": 200}
    training = Training(resolve({**verified, "method": "assume_negative"}), tmp_path)
    state, metrics = training.advance(training.initial_state(), 1)
    expected = TRAINED | {
        f"{split}/{name}" for split in ("val", "test") for name in (*METRICS, *GROUP_METRICS, "images")
    }
    assert set(metrics) == expected
    task = training.task
    scores = loop.scores(state, training.config.recipe(1), task, training.feature_cache, 1)["test"]
    by_class = average_precision(scores.numpy(), task.test.labels)
    rarest = np.argsort((task.observed != 0).sum(axis=0), kind="stable")[:4]
    assert metrics["test/map_g1"] == pytest.approx(100 * by_class[rarest].mean())
    groups = [metrics[f"test/{name}"] for name in GROUP_METRICS]
    assert sum(groups) / 5 == pytest.approx(metrics["test/map"]), "five groups of four of twenty classes"


def test_the_record_has_the_sizes_of_the_splits_that_were_used(tmp_path):
    sizes = {"data.train_images": 40, "data.val_images": 10, "data.test_images": 30, "data.train_fraction": 0.5}
    (metrics,) = fit("assume_negative", {**SETTINGS, **sizes, "train.epochs": 1}, cache_folder=tmp_path).history
    assert [metrics[f"{split}/images"] for split in ("train", "val", "test")] == [20, 10, 30]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"network.frozen_blocks": 5}, [1300, 1300]),  # a layer from 64 channels to 20 classes, with bias
        # The last block: a convolution of 3 x 3 from 64 to 64 channels, without bias, and batch norm.
        ({"network.frozen_blocks": 4}, [1300 + 64 * 64 * 9 + 2 * 64] * 2),
        ({"network.frozen_blocks": 4, "train.linear_init": "first_epochs"}, [1300, 1300 + 64 * 64 * 9 + 2 * 64]),
        ({"network.frozen_blocks": 4, "train.backbone_multiplier": 0}, [1300, 1300]),
    ],
)
def test_trained_parameters_are_those_that_the_optimiser_changes(tmp_path, settings, expected):
    result = fit("assume_negative", {**SETTINGS, "train.epochs": 2, **settings}, cache_folder=tmp_path)
    assert [metrics["train/parameters"] for metrics in result.history] == expected


def test_a_frozen_backbone_is_left_out_of_the_state(tmp_path):
    result = fit("assume_negative", {**SETTINGS, "network.frozen_blocks": 5}, cache_folder=tmp_path)
    assert {name.split("/")[1] for name in result.state} == {"classifier"}


def test_a_backbone_of_rate_0_stays_as_it_was(tmp_path):
    training = Training(
        resolve({**SETTINGS, "method": "assume_negative", "train.backbone_multiplier": 0}), cache_folder=tmp_path
    )
    before = training.initial_state()
    after, _ = training.advance(before, 1)
    assert before
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize(("augmentation", "least"), [("none", None), ("shift", 30), ("flip", 10), ("crops", 30)])
def test_every_epoch_has_an_order_of_its_own_and_with_augmentation_views_of_its_own(augmentation, least, monkeypatch):
    batches = []
    real = AssumeNegativeObjective.loss

    def recorded(self, batch, modules, state):
        batches.append(batch)
        return real(self, batch, modules, state)

    monkeypatch.setattr(AssumeNegativeObjective, "loss", recorded)
    # With all blocks frozen and one batch an epoch, features are a function of the views.
    whole = {"network.frozen_blocks": 5, "train.batch_size": 40, "train.augmentation": augmentation}
    tiny.run(resolve({**SETTINGS, **whole, "method": "assume_negative"}))
    one, other = (batch.features[batch.indices.argsort()] for batch in batches[:2])
    assert sorted(batches[0].indices.tolist()) == sorted(batches[1].indices.tolist()) == list(range(40))
    assert batches[0].indices.tolist() != batches[1].indices.tolist()
    moved = (one != other).flatten(1).any(1)
    assert moved.sum() > least if least else not moved.any()


def test_the_optimiser_carries_on_from_epoch_to_epoch():
    adam = tiny.run(resolve({**SETTINGS, "method": "assume_negative"}))
    steps = [state["optimizer/classifier/linear.weight/step"].item() for state in adam.states[1:]]
    assert steps == [3, 6, 9, 12]
    # One batch an epoch and a rate that changes nothing: the gradient is the same each time.
    still = {"train.optimizer": "sgd", "train.learning_rate": 1e-30, "train.momentum": 0.9, "train.batch_size": 40}
    sgd = tiny.run(resolve({**SETTINGS, **still, "method": "assume_negative"}))
    buffers = [state["optimizer/classifier/linear.weight/momentum_buffer"] for state in sgd.states[1:]]
    for buffer, geometric_sum in zip(buffers, (1, 1.9, 2.71, 3.439), strict=True):
        torch.testing.assert_close(buffer, geometric_sum * buffers[0], rtol=1e-4, atol=1e-7)


def test_rmsprop_has_decay_09_epsilon_1_and_momentum():
    still = {"train.optimizer": "rmsprop", "train.learning_rate": 1e-30, "train.batch_size": 40}
    states = tiny.run(resolve({**SETTINGS, **still, "method": "assume_negative"})).states[1:]
    of_weight = "optimizer/classifier/linear.weight"
    gradient = (states[0][f"{of_weight}/square_avg"] / 0.1).sqrt()  # its size; the same in each epoch
    assert gradient.max() > 1e-3
    moved = torch.zeros_like(gradient)
    for epoch, state in enumerate(states, start=1):
        square = gradient**2 * (1 - 0.9**epoch)
        torch.testing.assert_close(state[f"{of_weight}/square_avg"], square, rtol=1e-4, atol=1e-9)
        moved = 0.9 * moved + gradient / (square.sqrt() + 1)
        torch.testing.assert_close(state[f"{of_weight}/momentum_buffer"].abs(), moved, rtol=1e-4, atol=1e-7)


WILD = {**SETTINGS, "train.optimizer": "sgd", "train.learning_rate": 1e30}


@pytest.mark.parametrize("seed", [1, 2])
def test_a_loss_that_is_not_finite_ends_training_and_names_the_epoch(seed, tmp_path):
    with pytest.raises(NotFiniteError, match=r"the loss is (nan|inf) in epoch 1, step 2"):
        fit("assume_negative", WILD, seed=seed, cache_folder=tmp_path)


def test_scores_that_are_not_finite_after_an_epochs_last_step_end_training_in_the_same_way(tmp_path):
    with pytest.raises(NotFiniteError):
        fit("assume_negative", {**WILD, "train.batch_size": 40}, cache_folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"delta": 1}, "delta"), ({"train.lr": 1}, "train.lr"), ({"train.batch_size": 0}, "train.batch_size")],
)
def test_a_bad_setting_is_named_before_anything_is_made(settings, name, tmp_path, pretrainings):
    with pytest.raises(SettingError, match=f"^{name}: "):
        fit("large_loss", {**SETTINGS, **settings}, cache_folder=tmp_path)
    assert not pretrainings
    assert not list(tmp_path.iterdir())


def test_pretraining_is_made_once_whatever_is_trained_on_it(tmp_path, pretrainings):
    fit("assume_negative", {**SETTINGS, "train.epochs": 1}, seed=1, cache_folder=tmp_path)
    features.prepare.cache_clear()  # as in another process
    fit("large_loss", {**SETTINGS, "train.epochs": 1, "data.labels": "full"}, seed=2, cache_folder=tmp_path)
    assert pretrainings == [(64, 1)]
    fit("large_loss", {**SETTINGS, "train.epochs": 1, "network.pretrain_images": 65}, cache_folder=tmp_path)
    assert pretrainings == [(64, 1), (65, 1)]
    assert len(list(store.Store(tmp_path).records())) == 2


def test_weights_are_made_apart_from_what_has_to_be_at_hand_and_none_where_they_are_random(tmp_path, pretrainings):
    random_weights = {**SETTINGS, "method": "assume_negative", "network.pretrain_epochs": 0}
    Training(resolve(random_weights), tmp_path).make()
    assert not pretrainings
    training = Training(resolve({**SETTINGS, "method": "assume_negative"}), tmp_path)
    training.prepare()
    assert not pretrainings
    training.make()
    assert pretrainings == [(64, 1)]
    training.initial_state()
    assert pretrainings == [(64, 1)]


def test_truncated_weights_are_reported_and_made_again(tmp_path, pretrainings):
    settings = {**SETTINGS, "train.epochs": 1}
    whole = fit("assume_negative", settings, cache_folder=tmp_path)
    (record,) = store.Store(tmp_path).records()
    whole_file = record.path.read_bytes()
    record.path.write_bytes(whole_file[:1000])
    features.prepare.cache_clear()
    with pytest.warns(store.DamagedRecordWarning, match=r"pretrained is damaged; it is computed again"):
        mended = fit("assume_negative", settings, cache_folder=tmp_path)
    assert len(pretrainings) == 2
    assert not tiny.different(whole.state, mended.state)
    assert record.path.read_bytes() == whole_file


def test_what_is_made_once_is_read_and_what_fails_leaves_no_record(tmp_path):
    kept = store.Store(tmp_path)
    made = kept.made_once("key", "weights", lambda: {"x": torch.arange(3)})
    assert not tiny.different(kept.made_once("key", "weights", pytest.fail), made)
    with pytest.raises(ZeroDivisionError):
        kept.made_once("other", "weights", lambda: {"x": torch.tensor(1 / 0)})
    assert [record.key for record in kept.records()] == ["key"]


def test_the_folder_of_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SWEEPER_STORE", str(tmp_path / "store"))
    assert store.default_folder() == tmp_path / "store"
    monkeypatch.delenv("SWEEPER_STORE")
    monkeypatch.chdir(tmp_path)
    assert store.default_folder() == tmp_path / "runs" / "store"


def test_the_loss_of_an_epoch_is_the_mean_over_images_not_over_batches(tmp_path):
    # At a rate that changes nothing the loss of an epoch is the same for any batch size, a last smaller batch included.
    still = {**SETTINGS, "train.optimizer": "sgd", "train.learning_rate": 1e-30, "train.epochs": 1}
    losses = [
        fit("assume_negative", {**still, "train.batch_size": size}, cache_folder=tmp_path).history[0]["train/loss"]
        for size in (3, 16, 40)
    ]
    assert all(math.isclose(loss, losses[0], rel_tol=1e-6) for loss in losses)
