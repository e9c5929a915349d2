"""Diagnostics against computations written another way; they look, and change nothing."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import data, fit
from methods.config import resolve
from methods.diagnostics import Diagnosis, maxima, memorization, modifications, pointing_game
from methods.networks import digit_conv
from methods.registry import methods
from methods.training import Training
from tests.methods import tiny

ALL_ON = {
    "diagnostics.memorization": True,
    "diagnostics.modifications": True,
    "diagnostics.pointing_game": True,
    "diagnostics.pictures": 3,
}
LL_CT = {**tiny.TINY, "data.labels": "single_positive", "scheme": "correct_temporary", "delta_rel": 10.0}


def test_memorization_is_the_mean_loss_of_each_kind_and_where_it_was_highest():
    random = np.random.default_rng(0)
    truth = np.where(random.random((6, 5)) < 0.5, 1, -1)
    observed = np.where(random.random((6, 5)) < 0.4, truth, 0)
    logits = random.normal(size=(4, 6, 5)).astype(np.float32)
    kept: dict = {}
    for epoch in range(1, 5):
        found = memorization(
            kept, torch.from_numpy(logits[epoch - 1]), torch.tensor(observed), torch.tensor(truth), epoch, 2
        )
        kept = found.kept
    # -log p of the label that assume-negative training sees, in double precision
    losses = np.log1p(np.exp(np.where(observed > 0, -1, 1) * logits.astype(np.float64)))
    highest = losses.argmax(axis=0) + 1
    kinds = {"tp": observed == 1, "tn": truth == -1, "fn": (truth == 1) & (observed != 1)}
    for name, labels in kinds.items():
        assert found.metrics[f"{name}_loss"] == pytest.approx(losses[3][labels].mean(), rel=1e-5)
        assert found.metrics[f"{name}_warmup"] == pytest.approx(100 * (highest[labels] <= 2).mean())
        assert found.metrics[f"{name}_later"] == pytest.approx(100 * (highest[labels] > 2).mean())


def test_of_epochs_with_equal_losses_the_earlier_has_the_highest():
    logits, labels = torch.zeros(2, 3), torch.tensor([[1, -1, 1], [1, 1, -1]])
    first = memorization({}, logits, labels, labels, 1, warmup_epochs=1)
    second = memorization(first.kept, logits, labels, labels, 2, warmup_epochs=1)
    assert (second.metrics["tp_warmup"], second.metrics["tn_warmup"]) == (100, 100)


def test_what_is_looked_at_is_the_network_after_the_epoch_on_the_images_it_is_to_be_looked_at_on(tmp_path):
    training = Training(
        resolve({**LL_CT, **ALL_ON, "method": "large_loss", "diagnostics.upsampling": "cells"}), tmp_path
    )
    *_, (state, metrics) = training.epochs()
    task = data.load(training.config.data)
    network = digit_conv.blocks(0).eval()
    parts = {name.partition("/")[::2]: tensor for name, tensor in training.weights(state).items()}
    network.load_state_dict({name: tensor for (part, name), tensor in parts.items() if part in ("trunk", "backbone")})
    weight, bias = (parts["classifier", f"linear.{name}"].double().numpy() for name in ("weight", "bias"))

    def maps(split):
        with torch.no_grad():
            return network(digit_conv.normalise(torch.from_numpy(split.images))).double().numpy()

    features = maps(task.test)
    shares = []
    for label in range(20):
        hits = []
        for image in np.flatnonzero(task.test.labels[:, label] == 1):
            activation = sum(weight[label, d] * features[image, d] for d in range(64))
            y, x = (8 * cell + 4 for cell in divmod(activation.argmax(), 6))  # a cell is 8 pixels wide
            own = [box[2:] for box in task.test.boxes if (box[0], box[1]) == (image, label)]
            hits.append(any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in own))
        shares += [np.mean(hits)] if hits else []
    assert metrics["pointing_game/hits"] == pytest.approx(100 * np.mean(shares))

    features = maps(task.train)
    logits = (features.mean((2, 3)) + features.max((2, 3))) @ weight.T + bias
    given = task.observed == 1
    assert metrics["memorization/tp_loss"] == pytest.approx(np.log1p(np.exp(-logits[given])).mean(), rel=1e-4)
    missed = (task.train.labels == 1) & ~given
    assert metrics["memorization/fn_loss"] == pytest.approx(np.log1p(np.exp(logits[missed])).mean(), rel=1e-4)


def test_precision_of_modification_counts_what_is_truly_positive_and_says_nan_of_nothing():
    truth = torch.tensor([[1, -1, 1], [-1, 1, -1]])
    first = modifications({}, torch.tensor([[True, True, False], [False, True, False]]), truth, 1)
    assert first.metrics == {"count": 3, "per_image": 1.5, "precision": pytest.approx(100 * 2 / 3)}
    second = modifications(first.kept, torch.tensor([[True, False, True], [False, True, False]]), truth, 2)
    assert second.kept["since"].tolist() == [[1, 0, 2], [0, 1, 0]]
    third = modifications(second.kept, torch.zeros(2, 3, dtype=torch.bool), truth, 3)
    assert math.isnan(third.metrics["precision"])
    assert third.kept["since"].sum() == 0


@given(st.integers(0, 10_000), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_the_pointing_game_is_a_loop_over_positives_and_boxes(seed, tolerance):
    random = np.random.default_rng(seed)
    labels = np.where(random.random((5, 4)) < 0.5, 1, -1)
    points = random.integers(0, 12, size=(5, 4, 2))
    corners = random.integers(0, 10, size=(12, 2))
    sides = random.integers(1, 5, size=(12, 2))
    boxes = np.column_stack([random.integers(0, 5, 12), random.integers(0, 4, 12), corners, corners + sides])
    shares = []
    for k in range(4):
        hits = []
        for i in range(5):
            if labels[i, k] == 1:
                x, y = points[i, k]
                own = [box[2:] for box in boxes if (box[0], box[1]) == (i, k)]
                t = tolerance
                hits.append(any(a - t <= x < c + t and b - t <= y < d + t for a, b, c, d in own))
        if hits:
            shares.append(np.mean(hits))
    found = pointing_game(points, boxes, labels, tolerance).metrics["hits"]
    assert found == pytest.approx(100 * np.mean(shares)) if shares else math.isnan(found)


def test_a_maximum_is_found_at_its_cells_centre_or_in_the_enlarged_map():
    maps = torch.zeros(2, 3, 4)
    maps[0, 2, 1] = 1.0
    maps[1, 0, 3] = 2.0
    assert maxima(maps, (12, 16), "cells").tolist() == [[6, 10], [14, 2]]
    for (x, y), (cx, cy) in zip(maxima(maps, (12, 16), "bilinear").tolist(), [(6, 10), (14, 2)], strict=True):
        assert abs(x - cx) <= 2 and abs(y - cy) <= 2


@pytest.mark.parametrize("cells", [1, 3, 6, 7])
def test_a_maximum_in_an_outer_cell_is_at_its_centre_on_all_four_sides(cells):
    corners = torch.zeros(2, cells, cells)
    corners[0, 0, 0] = corners[1, -1, -1] = 1.0
    (x0, y0), (x1, y1) = maxima(corners, (48, 48), "bilinear").tolist()
    assert (x0, y0) == (y0, x0)
    if cells > 1:
        assert (x0 + x1, y0 + y1) == (47, 47), "one is the other mirrored"
    assert abs(x0 + 0.5 - 24 / cells) <= 1


def test_a_map_is_enlarged_between_the_centres_of_its_cells_and_is_flat_beyond_the_outer_ones():
    maps = np.random.default_rng(0).normal(size=(40, 3, 4))
    # The outer centres lie half a cell from the border: np.interp goes on with the value there, as it should.
    rows, columns = ((np.arange(cells) + 0.5) * 4 - 0.5 for cells in (3, 4))
    for one, (x, y) in zip(maps, maxima(torch.from_numpy(maps), (12, 16), "bilinear").tolist(), strict=True):
        wide = np.array([np.interp(np.arange(16), columns, line) for line in one])
        enlarged = np.array([np.interp(np.arange(12), rows, line) for line in wide.T]).T
        assert enlarged[y, x] == pytest.approx(enlarged.max(), abs=1e-12)


@pytest.mark.parametrize("method", methods())
def test_what_is_looked_at_of_any_method_changes_nothing(method, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()  # where the backbone is pre-trained once
    given = {**tiny.tiny(method), "data.labels": "single_positive", "train.epochs": 3}
    del given["method"]
    plain = fit(method, given, cache_folder=folder)
    watched = fit(method, given | ALL_ON, cache_folder=folder)
    assert plain.config.keys() == watched.config.keys()
    assert not tiny.different(plain.state, watched.state)
    for before, after in zip(plain.history, watched.history, strict=True):
        assert {name: repr(after[name]) for name in before} == {name: repr(value) for name, value in before.items()}
    assert {name.split("/")[0] for name in watched.history[0]} - {name.split("/")[0] for name in plain.history[0]} == {
        "memorization",
        "modifications",
        "pointing_game",
    }


def test_in_epoch_1_large_loss_modifies_nothing_and_then_its_share_of_the_entries(tmp_path):
    result = fit("large_loss", LL_CT | ALL_ON, cache_folder=tmp_path)
    counts = [metrics["modifications/count"] for metrics in result.history]
    images, classes = result.config.data.train_images, 20
    expected = [0, *(sum(math.ceil(b * classes * 0.1 * e) for b in (16, 16, 8)) for e in (1, 2, 3))]
    assert images == 40
    assert counts == expected


def test_labels_that_are_corrected_for_good_count_as_modified_ever_after(tmp_path):
    result = fit("large_loss", LL_CT | ALL_ON | {"scheme": "correct_permanent"}, cache_folder=tmp_path)
    counts = [metrics["modifications/count"] for metrics in result.history]
    assert counts[0] == 0
    assert counts == sorted(counts)
    corrected = (result.state["method/labels"] == 1).sum() - 40  # one was given of each image
    assert counts[-1] == corrected


def test_a_diagnosis_is_one_record_and_comes_back(tmp_path):
    before = Diagnosis({"a": 0.1, "b": math.nan}, {"since": torch.arange(3, dtype=torch.int16)})
    after = Diagnosis.of(before.tensors())
    assert repr(after.metrics) == repr(before.metrics)
    assert torch.equal(after.kept["since"], before.kept["since"])


def test_only_what_a_diagnostic_is_computed_by_names_its_record():
    def records(**settings):
        values = {f"diagnostics.{name}": value for name, value in settings.items()}
        return dict(resolve({"method": "large_loss"} | values).records().diagnostics)

    alone = records(memorization=True)
    assert records(memorization=True, pointing_game=True)["memorization"] == alone["memorization"]
    assert records(memorization=True, pictures=3, modifications=True)["memorization"] == alone["memorization"]
    assert records(memorization=True, warmup_epochs=2) != alone
    assert records(pointing_game=True, tolerance=3) != records(pointing_game=True)
    assert records() == {}


def test_pictures_are_the_scenes_with_most_modified_labels_and_what_became_of_them(tmp_path):
    training = Training(resolve({**LL_CT, **ALL_ON, "method": "large_loss", "seed": 2}), tmp_path)
    *_, (state, _) = training.epochs()
    task = data.load(training.config.data)
    since = torch.zeros(task.observed.shape, dtype=torch.int16)
    # Of scenes with equally many the first: the last one is left out.
    since[[3, 3, 7, 20, 30], [0, 1, 2, 3, 4]] = torch.tensor([2, 3, 4, 4, 2], dtype=torch.int16)
    arrays = np.load(io.BytesIO(training.pictures(state, since)), allow_pickle=False)
    assert arrays["images"].shape == (3, 3, 48, 48)
    for row, source in enumerate([3, 7, 20]):
        assert np.array_equal(arrays["images"][row], task.train.images[source])
        assert np.array_equal(arrays["truth"][row], task.train.labels[source])
        assert np.array_equal(arrays["given"][row], task.observed[source])
        assert np.array_equal(arrays["positive_since"][row], since[source])
        own = task.train.boxes[task.train.boxes[:, 0] == source][:, 1:]
        assert np.array_equal(arrays["boxes"][arrays["boxes"][:, 0] == row][:, 1:], own)
    assert arrays["classes"].tolist() == list(task.classes)
    assert arrays["attention"].shape == (3, 20, 2)
    assert arrays["attention"].min() >= 0 and arrays["attention"].max() < 48
