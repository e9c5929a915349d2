"""Diagnostics against computations written another way; they look, and change nothing."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import data, fit
from methods.contract.objective import LOGITS
from methods.evaluation.diagnostics import Diagnosis, Watch, maxima, memorization, modifications, pointing_game
from methods.networks.digit_conv import DigitConv
from methods.training import artifacts
from methods.training.config import resolve
from methods.training.fit import Training
from methods.training.registry import methods
from tests.methods import tiny

ALL_ON = {
    "diagnostics.memorization": True,
    "diagnostics.modifications": True,
    "diagnostics.pointing_game": True,
    "diagnostics.known_loss": True,
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
    backbone = DigitConv(64, 1)
    network = backbone.blocks(0).eval()
    parts = {name.partition("/")[::2]: tensor for name, tensor in training.weights(state).items()}
    network.load_state_dict({name: tensor for (part, name), tensor in parts.items() if part in ("trunk", "backbone")})
    weight, bias = (parts["classifier", f"linear.{name}"].double().numpy() for name in ("weight", "bias"))

    def maps(split):
        with torch.no_grad():
            return network(backbone.normalise(torch.from_numpy(split.images))).double().numpy()

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
    assert metrics["modifications/base_rate"] == pytest.approx(100 * missed.sum() / (task.observed == 0).sum())


def test_precision_of_modification_counts_what_is_truly_positive_and_says_nan_of_nothing():
    truth = torch.tensor([[1, -1, 1], [-1, 1, -1]])
    observed = torch.tensor([[1, -1, 0], [0, 0, 0]])
    labels = observed, truth
    first = modifications({}, torch.tensor([[True, True, False], [False, True, False]]), *labels, 1)
    assert first.metrics == {"count": 3, "per_image": 1.5, "precision": pytest.approx(100 * 2 / 3), "base_rate": 50}
    second = modifications(first.kept, torch.tensor([[True, False, True], [False, True, False]]), *labels, 2)
    assert second.kept["since"].tolist() == [[1, 0, 2], [0, 1, 0]]
    third = modifications(second.kept, torch.zeros(2, 3, dtype=torch.bool), *labels, 3)
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
        "known_loss",
    }


@pytest.mark.parametrize("steps", [2, 4, 11])
def test_the_loss_on_known_labels_is_a_mean_over_each_window_of_steps(steps):
    random = np.random.default_rng(steps)
    observed = random.choice([-1, 0, 1], (3 * steps, 5))
    watch, losses = Watch(torch.from_numpy(observed)), []
    for step in range(steps):
        rows, logits = np.arange(3 * step, 3 * step + 3), random.normal(size=(3, 5))
        watch(LOGITS, torch.from_numpy(rows), torch.from_numpy(logits))
        labels = observed[rows]
        losses.append(np.log1p(np.exp(-labels * logits))[labels != 0])
    found = watch.known_loss().metrics
    assert found.pop("mean") == pytest.approx(np.concatenate(losses).mean())
    assert list(found) == [f"window_{number}" for number in (1, 2, 3, 4)]
    sizes = {2: [1, 1, 0, 0], 4: [1, 1, 1, 1], 11: [3, 3, 3, 2]}[steps]
    for size, value in zip(sizes, found.values(), strict=True):
        window, losses = losses[:size], losses[size:]
        assert value == pytest.approx(np.concatenate(window).mean() if window else math.nan, nan_ok=True)


def test_of_a_method_that_trains_on_nothing_else_it_is_the_training_loss(tmp_path):
    settings = {
        **tiny.TINY,
        "diagnostics.known_loss": True,
        "train.batch_size": 8,
        "train.epochs": 2,
        "bce_mean": "batch",
    }
    result = fit("ssgrl", {**settings, "data.labels": "full"}, cache_folder=tmp_path)
    for metrics in result.history:  # all labels are known, so that each step counts alike
        windows = [metrics[f"known_loss/window_{number}"] for number in (1, 2, 3, 4)]
        assert metrics["known_loss/mean"] == pytest.approx(metrics["train/loss"], rel=1e-5)
        assert len(set(windows)) == 4 and min(windows) < metrics["known_loss/mean"] < max(windows)


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
    content = artifacts.corrections(training, state, training.config.train.epochs, since)
    arrays = np.load(io.BytesIO(content), allow_pickle=False)
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


SST = {**tiny.TINY, "method": "sst", "seed": 2, "data.known": 0.6, "start_epoch": 2}
SST |= {"theta_intra_start": 0.4, "theta_intra_step": 0.01, "theta_intra_min": 0.1, "bank_size": 4}
SST |= {"theta_inter_start": 0.7, "theta_inter_step": 0.01, "theta_inter_min": 0.1}


def completions(folder, **changes):
    """The arrays of cooccurrence.npz and the task; None in place of the arrays where there is no such file."""
    training = Training(resolve({**SST, "diagnostics.cooccurrence": 40, **changes}), folder)
    *_, (state, _) = training.epochs()
    before = tiny.digest(state)
    content = artifacts.cooccurrence(training, state, training.config.train.epochs)
    assert tiny.digest(state) == before
    return content and dict(np.load(io.BytesIO(content), allow_pickle=False)), data.load(training.config.data)


def added(arrays):
    """Labels (M, R, K) that each rule made positive."""
    return (arrays["completed"] > 0) & (arrays["given"] == 0)[:, None]


def test_scenes_show_the_co_occurrence_the_scores_that_follow_and_what_reaches_the_thresholds(tmp_path):
    arrays, task = completions(tmp_path)
    given, together = arrays["given"], arrays["cooccurrence"]
    for name, expected in (("images", task.train.images), ("truth", task.train.labels), ("given", task.observed)):
        np.testing.assert_array_equal(arrays[name], expected)
    np.testing.assert_array_equal(arrays["boxes"], task.train.boxes)
    assert arrays["classes"].tolist() == list(task.classes)
    assert arrays["rules"].tolist() == ["intra", "inter"]
    np.testing.assert_allclose(arrays["thresholds"], [0.38, 0.68])  # two epochs after those that they start from
    assert together.shape == (40, 20, 20) and together.min() >= 0 and together.max() <= 1
    np.testing.assert_array_equal(together, together.transpose(0, 2, 1))
    assert (together[:, range(20), range(20)] == 1).all()
    assert together[:, 0, 1].std() > 0
    within = [[row[g > 0].mean() if (g > 0).any() else 0 for row in m] for m, g in zip(together, given, strict=True)]
    np.testing.assert_allclose(arrays["scores"][:, 0], within, rtol=1e-5)
    reached = arrays["scores"] >= arrays["thresholds"][:, None]
    np.testing.assert_array_equal(arrays["completed"], np.where((given == 0)[:, None] & reached, 1, given[:, None]))
    assert added(arrays).any((0, 2)).all(), "the case has no power"
    assert not added(arrays).all((0, 2)).any()


def test_the_scenes_are_those_in_which_every_rule_completes_most(tmp_path):
    everything, _ = completions(tmp_path)
    by_rule, positive = added(everything), (everything["given"] > 0).any(1)
    rank = [(-by_rule[i].sum(1).min(), not positive[i], -by_rule[i].any(0).sum(), i) for i in range(40)]
    few, _ = completions(tmp_path, **{"diagnostics.cooccurrence": 3})
    assert len(few["images"]) == 3
    shown = [int(np.flatnonzero((everything["images"] == image).all((1, 2, 3)))[0]) for image in few["images"]]
    assert shown == sorted(i for *_, i in sorted(rank)[:3])
    for name in ("cooccurrence", "scores", "completed", "given", "truth"):
        np.testing.assert_array_equal(few[name], everything[name][shown])


def test_statistical_co_occurrence_is_that_of_every_scene_and_what_is_off_has_no_scores(tmp_path):
    arrays, _ = completions(tmp_path, cst=False, cooccurrence="statistical")
    assert arrays["rules"].tolist() == ["intra"]
    assert arrays["scores"].shape == (40, 1, 20)
    assert (arrays["cooccurrence"] == arrays["cooccurrence"][0]).all()


def test_margins_are_the_thresholds_of_hst(tmp_path):
    method = {"method": "hst", "margin": "fixed", "margin_intra_start": 0.3, "margin_inter_start": 0.5}
    method |= {"prototypes": 2, "start_epoch": 2}
    training = Training(resolve({**tiny.TINY, "data.known": 0.6, "diagnostics.cooccurrence": 40, **method}), tmp_path)
    *_, (state, _) = training.epochs()
    content = artifacts.cooccurrence(training, state, training.config.train.epochs)
    arrays = np.load(io.BytesIO(content), allow_pickle=False)
    np.testing.assert_allclose(arrays["thresholds"], [0.3, 0.5])
    above = (arrays["scores"] > arrays["thresholds"][:, None]) & (arrays["given"] == 0)[:, None]
    np.testing.assert_array_equal(added(arrays), above)
    assert above.any((0, 2)).all()


@pytest.mark.parametrize(
    "changes",
    [{"method": "ssgrl"}, {"ist": False}, {"start_epoch": 9}],
    ids=["another method", "without IST", "before there are pseudo labels"],
)
def test_where_no_label_is_completed_by_co_occurrence_there_are_no_such_scenes(tmp_path, changes):
    own = {name for name in SST if "." not in name} - {"method", "seed"}
    values = {name: v for name, v in SST.items() if "method" not in changes or name not in own} | changes
    training = Training(resolve({**values, "diagnostics.cooccurrence": 3}), tmp_path)
    *_, (state, _) = training.epochs()
    assert artifacts.cooccurrence(training, state, training.config.train.epochs) is None


def test_scenes_of_co_occurrence_change_no_key_and_no_other_diagnostic():
    plain, shown = resolve(SST), resolve({**SST, "diagnostics.cooccurrence": 3})
    assert plain.keys() == shown.keys()
    assert plain.records() == shown.records()


def similar_images(**changes):
    """A training, the epoch and the state after it, and the arrays of similar_images.npz."""
    training = Training(resolve({**SST, "diagnostics.similar_images": 5, "train.epochs": 2, **changes}), tiny.folder())
    *_, (state, _) = training.epochs()
    content = artifacts.similar_images(training, state, 2)
    return training, state, content and dict(np.load(io.BytesIO(content), allow_pickle=False))


def test_similar_images_are_the_nearest_by_the_features_of_a_class_with_the_class_known():
    training, state, arrays = similar_images(theta_inter_start=0.9)
    task, objective = training.task, training.config.recipe(2).objective
    observed, own = task.observed, training.over_split("train", state, 2, objective.class_features).double().numpy()
    hidden = ((task.train.labels > 0) & (observed == 0)).sum(1)
    rows = sorted([row for few in (2, 1, 0) for row in range(40) if min(hidden[row], 2) == few][:5])
    same = (np.asarray(task.train.images)[:, None] == arrays["images"]).all((2, 3, 4))
    sources, places = np.nonzero(same)
    row_of = dict(zip(places, sources, strict=True))
    assert [row_of[place] for place in arrays["query"]] == rows
    for name, expected in (("given", observed), ("truth", task.train.labels)):
        np.testing.assert_array_equal(arrays[name], expected[sources])
    bank = state["method/bank"].double().numpy()
    for m, row in enumerate(rows):
        cosines = {}
        for k in np.flatnonzero(observed[row] == 0):
            known = np.flatnonzero(observed[:, k] > 0)
            products = own[known, k] @ own[row, k] / np.linalg.norm(own[known, k], axis=1) / np.linalg.norm(own[row, k])
            if len(known):
                cosines[k] = dict(zip(known, products, strict=True))
        best = sorted(cosines, key=lambda k: -np.mean(list(cosines[k].values())))[:3]
        assert arrays["shown"][m].tolist() == best
        for rank, k in enumerate(best):
            assert arrays["mean"][m, rank] == pytest.approx(np.mean(list(cosines[k].values())), rel=1e-4)
            nearest = [row_of[place] for place in arrays["nearest"][m, rank] if place >= 0]
            assert len(set(nearest)) == min(3, len(cosines[k]))
            expected = sorted(cosines[k].values(), reverse=True)[:3]
            found = [cosines[k][other] for other in nearest]  # not the rows: some are equally near but for rounding
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            np.testing.assert_allclose(arrays["cosine"][m, rank][: len(nearest)], expected, rtol=1e-5)
            similarity = [vector @ own[row, k] / max(np.linalg.norm(vector), 1e-9) for vector in bank[k]]
            score = np.mean(similarity) / np.linalg.norm(own[row, k])
            assert arrays["added"][m, rank] == (score >= objective.inter.threshold)
    assert 0 < arrays["added"].sum() < arrays["added"].size, "the case has no power"


def test_a_method_without_features_of_classes_has_no_similar_images():
    *_, arrays = similar_images(method="sst", ist=False)
    assert not arrays["added"].any(), "no rule is shown without co-occurrence"
    training = Training(resolve({**LL_CT, "method": "large_loss", "diagnostics.similar_images": 3}), tiny.folder())
    assert artifacts.similar_images(training, training.initial_state(), 1) is None


@pytest.mark.parametrize("own", [{"prompts": "shared", "decoupling": "off"}, {}])
def test_attended_scenes_are_test_scenes_with_the_classes_probabilities_and_maps(tmp_path, own):
    values = tiny.tiny("prompt_learning", **{"train.epochs": 1}, **own)
    training = Training(resolve({**values, "diagnostics.attention": 3, "diagnostics.per_class": True}), tmp_path)
    state, metrics = training.advance(training.initial_state(), 1)
    with np.load(io.BytesIO(artifacts.attention(training, state, 1))) as file:
        arrays = dict(file)
    test = training.task.test
    several = np.flatnonzero((test.labels > 0).sum(1) >= 3)[:3]
    np.testing.assert_array_equal(arrays["images"], np.asarray(test.images)[several])
    np.testing.assert_array_equal(arrays["truth"], test.labels[several])
    scores = training.scores(state, 1)["test"].double()
    np.testing.assert_allclose(arrays["scores"], scores.sigmoid()[several], rtol=1e-4)
    assert arrays["attention"].shape == (3, 20, 6, 6)
    each = [metrics[f"test/ap/{name}"] for name in training.task.classes]
    assert np.nanmean(each) == pytest.approx(metrics["test/map"])
