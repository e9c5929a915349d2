"""SST: its parts against the release's numbers and against sums in plain numpy, what is shared, what training does."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods import data
from methods.components.contrastive import Contrastive
from methods.components.decoupling import DecoupledObjective, Decoupling
from methods.components.transfer import (
    LabelStatistics,
    LearnedPairs,
    PairLoss,
    PairObjective,
    StatisticalPairs,
    inter_scores,
    intra_scores,
    pair_loss,
    pair_matrix,
    unit,
)
from methods.contract.head import FeatureMap
from methods.contract.objective import MODIFIED, Batch, EpochStart
from methods.networks.class_head import ClassHead
from methods.networks.gated_graph import GatedGraph
from methods.networks.pair_head import PairHead, pairs
from methods.networks.semantic_decoupling import SemanticDecoupling
from methods.sst import SST, Inter, Intra, SSTObjective, SSTSettings, update_bank, with_pseudo_labels
from methods.training.config import resolve
from tests.golden_cases import cases, load
from tests.methods import tiny
from tests.methods.golden_weights import GRAPH, HEAD, PAIRS
from tests.methods.golden_weights import given as given_weights

property_test = settings(derandomize=True, deadline=None, max_examples=60)
label_arrays = arrays(np.int8, (4, 5), elements=st.sampled_from([-1, 0, 1]))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


def random(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


# The release's numbers


@pytest.mark.parametrize("path", cases("sst_intra_pseudo"))
def test_pseudo_labels_within_images_are_golden(path):
    case = load(path)
    labels = torch.tensor(case.in_labels)
    np.testing.assert_array_equal(pairs(labels.shape[1]), case.out_pair_index)
    scores = intra_scores(pair_matrix(torch.tensor(case.in_pair_logits), labels.shape[1]), labels)
    unknown = case.in_labels == 0
    close(scores[unknown], case.out_scores[unknown])
    for threshold, expected in zip(case.param_thresholds.tolist(), case.out_pseudo_labels, strict=True):
        np.testing.assert_array_equal(with_pseudo_labels(labels, scores, threshold), expected)


@pytest.mark.parametrize("path", cases("sst_ist_loss"))
def test_the_loss_of_the_pair_head_is_golden(path):
    case = load(path)
    logits, labels = torch.tensor(case.in_pair_logits, requires_grad=True), torch.tensor(case.in_labels)
    gammas = {"gamma_pos": case.param_gamma_pos, "gamma_neg": case.param_gamma_neg, "clip": case.param_clip}
    loss = pair_loss(logits, labels, **gammas)
    loss.backward()
    close(loss.item(), case.out_loss)
    close(logits.grad, case.out_grad_pair_logits)
    if path.stem.endswith("-1"):  # the parameters that SST trains with
        close(pair_loss(logits, labels).item(), case.out_loss)


@pytest.mark.parametrize("path", cases("sst_inter_pseudo"))
def test_pseudo_labels_across_images_are_golden(path):
    case = load(path)
    labels = torch.tensor(case.in_labels)
    scores = inter_scores(torch.tensor(case.in_features), unit(torch.tensor(case.in_bank)).mean(1))
    unknown = case.in_labels == 0
    close(scores[unknown], case.out_scores[unknown])
    for threshold, expected in zip(case.param_thresholds.tolist(), case.out_pseudo_labels, strict=True):
        np.testing.assert_array_equal(with_pseudo_labels(labels, scores, threshold), expected)


@pytest.mark.parametrize("path", cases("sst_bank_update"))
def test_the_bank_of_features_is_golden(path):
    case = load(path)
    bank = torch.tensor(case.in_bank_before)
    for features, labels, expected in (
        (case.in_features_1, case.in_labels_1, case.out_bank_after_1),
        (case.in_features_2, case.in_labels_2, case.out_bank_after_2),
    ):
        update_bank(bank, torch.tensor(features), torch.tensor(labels))
        np.testing.assert_array_equal(bank, expected)


@pytest.mark.parametrize("path", cases("sst_theta_schedule"))
def test_the_thresholds_of_every_epoch_are_golden(path):
    case = load(path)
    given = {
        f"theta_{name}_{part}": value
        for name in ("intra", "inter")
        for part, value in (("start", case.param_start), ("step", case.param_step), ("min", case.param_floor))
    }
    method = SST(SSTSettings(start_epoch=case.param_first_epoch + 1, **given))  # epochs count from 1 here
    for epoch in range(1, case.param_num_epochs + 1):
        objective, active = method.objective(epoch), case.out_active[epoch - 1]
        for part in (objective.intra, objective.inter):
            assert (part is not None) == active
            if active:
                assert part.threshold == pytest.approx(case.out_theta[epoch - 1], abs=1e-9)


@pytest.mark.parametrize("path", cases("net_ist"))
def test_the_pair_head_is_golden(path):
    case = load(path)
    features = torch.tensor(case.in_features, requires_grad=True)
    width, hidden = features.shape[2], len(case.weight_intra_fc_1_bias)
    head = given_weights(PairHead(width, hidden, features.shape[1]), case, PAIRS)
    found = SSTObjective(Decoupling(1, None, None), pairs=LearnedPairs(hidden)).pair_logits(features, {"pairs": head})
    close(found.detach(), case.out_pair_logits)
    (found * torch.tensor(case.in_cotangent)).sum().backward()
    close(features.grad, case.out_grad_features)


@pytest.mark.parametrize("path", cases("net_sst"))
def test_the_network_of_sst_is_golden(path):
    case = load(path)
    maps = torch.tensor(case.in_feature_map, requires_grad=True)
    width, classes = maps.shape[1], len(case.in_word_vectors)
    hidden, attention = len(case.weight_intra_fc_1_bias), len(case.weight_SemanticDecoupling_fc1_weight)
    words, adjacency = torch.tensor(case.in_word_vectors), torch.tensor(case.in_adjacency)
    modules = {
        "decoupling": given_weights(
            SemanticDecoupling(width, words, attention), case, {}, "weight_SemanticDecoupling_"
        ),
        "graph": given_weights(
            GatedGraph(width, adjacency, case.param_time_steps), case, GRAPH, "weight_GraphNeuralNetwork_"
        ),
        "head": given_weights(ClassHead(width, classes), case, HEAD),
        "pairs": given_weights(PairHead(width, hidden, classes), case, PAIRS),
    }
    objective = SSTObjective(Decoupling(attention, None, case.param_time_steps), pairs=LearnedPairs(hidden))
    own = objective.decoupling.class_features(maps, modules)
    logits, pair_logits = objective.logits(maps, modules), objective.pair_logits(own, modules)
    close(own.detach(), case.out_semantic_features)
    close(logits.detach(), case.out_logits)
    close(pair_logits.detach(), case.out_pair_logits)
    cotangents = torch.tensor(case.in_cotangent_logits), torch.tensor(case.in_cotangent_pair_logits)
    ((logits * cotangents[0]).sum() + (pair_logits * cotangents[1]).sum()).backward()
    close(maps.grad, case.out_grad_feature_map)
    together = objective.matrix(pair_logits, classes, modules).detach()
    probabilities = 1 / (1 + np.exp(-case.out_pair_logits))
    for (i, j), column in zip(case.out_pair_index, probabilities.T, strict=True):
        close(together[:, i, j], column)
        close(together[:, j, i], column)
    assert (together.diagonal(dim1=1, dim2=2) == 1).all()


# Scores and pseudo labels


@property_test
@given(label_arrays, st.sampled_from(["mean", "sum"]), st.integers(0, 99))
def test_a_score_within_an_image_is_the_mean_or_sum_over_its_known_positives(labels, pooling, seed):
    matrix = random(4, 5, 5, seed=seed).abs()
    found = intra_scores(matrix, torch.tensor(labels), pooling)
    for image, scored in itertools.product(range(4), range(5)):
        terms = [matrix[image, scored, other].item() for other in range(5) if labels[image, other] == 1]
        expected = sum(terms) / (max(len(terms), 1) if pooling == "mean" else 1)
        assert found[image, scored].item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@property_test
@given(label_arrays)
def test_statistics_are_counted_label_by_label(labels):
    for among_known in (False, True):
        matrix = LabelStatistics(torch.tensor(labels), among_known).matrix
        for i, j in itertools.product(range(5), range(5)):
            images = [row for row in labels if row[j] == 1 and (row[i] != 0 or not among_known)]
            expected = sum(row[i] == 1 for row in images) / max(len(images), 1)
            assert matrix[i, j].item() == pytest.approx(expected)


def test_what_is_unknown_makes_statistics_low_unless_only_known_labels_are_counted():
    always_together = np.ones((4000, 2), np.int8) * (np.random.default_rng(0).random((4000, 2)) < 0.3)
    labels = torch.tensor(always_together.astype(np.int8))
    assert LabelStatistics(labels, among_known=False).matrix[0, 1].item() == pytest.approx(0.3, abs=0.03)
    assert LabelStatistics(labels, among_known=True).matrix[0, 1].item() == 1


@property_test
@given(label_arrays, arrays(np.float64, (4, 5), elements=st.floats(-1, 1)), st.floats(0, 1))
def test_pseudo_labels_are_positive_and_only_where_nothing_is_known(labels, scores, threshold):
    found = with_pseudo_labels(torch.tensor(labels), torch.tensor(scores), threshold).numpy()
    changed = found != labels
    np.testing.assert_array_equal(changed, (labels == 0) & (scores >= threshold) & (threshold < 1))
    assert (found[changed] == 1).all()


def test_an_image_without_a_known_positive_gets_no_pseudo_label_from_within():
    labels = torch.tensor([[0, -1, 0], [0, -1, 1]], dtype=torch.int8)
    scores = intra_scores(pair_matrix(torch.full((2, 3), 9.0), 3), labels)
    assert with_pseudo_labels(labels, scores, 0.5).tolist() == [[0, -1, 0], [1, -1, 1]]


@property_test
@given(st.lists(label_arrays, min_size=1, max_size=4), st.integers(1, 6))
def test_a_bank_holds_the_last_features_of_each_class(steps, size):
    bank, seen = torch.zeros(5, size, 2, dtype=torch.float64), [[] for _ in range(5)]
    for step, labels in enumerate(steps):
        features = random(4, 5, 2, seed=step)
        update_bank(bank, features, torch.tensor(labels))
        for k in range(5):
            seen[k] = [features[n, k] for n in range(4) if labels[n, k] == 1] + seen[k]
    for k in range(5):
        expected = [*seen[k], *[torch.zeros(2, dtype=torch.float64)] * size][:size]
        assert torch.equal(bank[k], torch.stack(expected))


def test_empty_slots_of_a_bank_count_as_no_similarity():
    feature = torch.tensor([3.0, 4.0])
    bank = torch.zeros(1, 4, 2)
    bank[0, 0] = 7 * feature
    assert inter_scores(feature.expand(1, 1, 2), unit(bank).mean(1)).item() == pytest.approx(0.25)


# A step


@pytest.fixture(scope="module")
def task():
    return data.load(resolve(tiny.tiny("sst")).data)


DECOUPLING = Decoupling(4, None, 2)
WIDTH = 6


def a_step(task, objective, state, rows=range(8), seed=3):
    """The loss, and what was noted, of a step in double precision on random feature maps; and these and the modules."""
    torch.manual_seed(seed)
    made = objective.modules(FeatureMap(WIDTH, "mean"), task)
    modules = {name: make().double() for name, make in made.items()}
    rows = torch.tensor(list(rows))
    maps, noted = random(len(rows), WIDTH, 3, 3, seed=seed), {}
    labels = torch.from_numpy(
        np.random.default_rng(seed).choice(
            np.array([-1, 0, 1], np.int8), (len(rows), task.num_classes), p=[0.4, 0.5, 0.1]
        )
    )
    batch = Batch(maps, labels, rows, progress=0.5, watch=lambda name, _, entries: noted.update({name: entries}))
    return objective.loss(batch, modules, state), noted, batch, modules


def bce(logits, targets, per_image=False):
    known = targets != 0
    entries = np.logaddexp(0, np.where(targets > 0, -logits, logits))
    if per_image:
        return np.mean([row[has].mean() if has.any() else 0 for row, has in zip(entries, known, strict=True)])
    return entries[known].mean()


def outputs(objective, batch, modules):
    """Logits, class features and probabilities of pairs, as numpy arrays."""
    with torch.no_grad():
        own = objective.decoupling.class_features(batch.features, modules)
        together = objective.matrix(objective.pair_logits(own, modules), own.shape[1], modules)
        together = together.expand(len(own), -1, -1)
        return objective.logits(batch.features, modules).numpy(), own.numpy(), together.numpy()


def ist_loss(together, labels, unshifted=False):
    """L_ist pair by pair; `unshifted` as in equation 4."""
    terms = []
    for n, (i, j) in itertools.product(range(len(labels)), itertools.combinations(range(labels.shape[1]), 2)):
        p = together[n, i, j]
        if labels[n, i] == labels[n, j] == 1:
            terms.append(-(1 - p) * np.log(p))
        else:
            q = min(1 - p + 0.05, 1)
            terms.append(-((1 - q) ** 2) * np.log(1 - p if unshifted else q))
    return np.mean(terms)


def scores_within(together, labels, pooling):
    scores = np.zeros(labels.shape)
    for n, k in itertools.product(*map(range, labels.shape)):
        terms = together[n, k][labels[n] == 1]
        scores[n, k] = terms.sum() / (max(len(terms), 1) if pooling == "mean" else 1)
    return scores


def cosine(one, other):
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / norms if norms else 0.0


@pytest.mark.parametrize("pooling", ["mean", "sum"])
@pytest.mark.parametrize("shared", [None, True])
@pytest.mark.parametrize("text", [None, True])
def test_a_step_is_what_numpy_makes_of_the_networks_outputs(task, pooling, shared, text):
    size = 3
    objective = SSTObjective(
        DECOUPLING,
        None,
        LearnedPairs(5, shared),
        PairLoss(10.0, ramp=True, unshifted=text),
        Intra({"sum": 0.9, "mean": 0.533 if shared else 0.5}[pooling], 0.7, pooling),
        Inter(0.05, 0.4),
        size,
        per_image=text,
    )
    bank = random(task.num_classes, size, WIDTH, seed=9)
    bank[2:] = 0
    state = {"bank": bank.clone(), **{f"counted/{name}": torch.tensor(0) for name in ("images", "intra", "inter")}}
    loss, noted, batch, modules = a_step(task, objective, state)
    logits, own, together = outputs(objective, batch, modules)
    labels = batch.labels.numpy()
    after = [[own[n, k] for n in range(len(labels)) if labels[n, k] == 1] for k in range(task.num_classes)]
    after = [[*new, *old.numpy()][:size] for new, old in zip(after, bank, strict=True)]
    across = np.array([[np.mean([cosine(f, g) for g in after[k]]) for k, f in enumerate(image)] for image in own])
    intra, inter = labels.copy(), labels.copy()
    intra[(labels == 0) & (scores_within(together, labels, pooling) >= objective.intra.threshold)] = 1
    inter[(labels == 0) & (across >= objective.inter.threshold)] = 1
    for completed in (intra, inter):
        assert 0 < (completed != labels).sum() < (labels == 0).sum(), "the case has no power"
    expected = bce(logits, labels, text) + 0.7 * bce(logits, intra, text) + 0.4 * bce(logits, inter, text)
    expected += 10 * 0.5 * ist_loss(together, labels, text)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_array_equal(noted[MODIFIED], (intra != labels) | (inter != labels))
    np.testing.assert_allclose(state["bank"], np.array(after), rtol=1e-12)
    with torch.no_grad():
        completion = objective.completion(batch.features, batch.labels, modules, state)
    np.testing.assert_array_equal(completion.cooccurrence, together)
    within = scores_within(together, labels, pooling)
    for name, scores, completed in (("intra", within, intra), ("inter", across, inter)):
        close(completion.rules[name].scores, scores)
        np.testing.assert_array_equal(completion.rules[name].labels, completed)
    assert completion.rules["intra"].threshold == objective.intra.threshold
    counts = [(intra != labels).sum() / 8, (inter != labels).sum() / 8]
    assert objective.report(modules, state) == {
        "theta_intra": objective.intra.threshold,
        "theta_inter": 0.05,
        "pseudo_intra": counts[0],
        "pseudo_inter": counts[1],
    }


def test_statistical_co_occurrence_takes_the_place_of_the_pair_head(task):
    objective = SSTObjective(DECOUPLING, None, StatisticalPairs(True), None, Intra(0.4, 1.0, "mean"))
    state = {f"counted/{name}": torch.tensor(0) for name in ("images", "intra", "inter")}
    loss, _, batch, modules = a_step(task, objective, state)
    assert "pairs" not in modules
    logits, _, together = outputs(objective, batch, modules)
    labels = batch.labels.numpy()
    np.testing.assert_array_equal(together, np.broadcast_to(modules["statistics"].matrix, together.shape))
    intra = labels.copy()
    intra[(labels == 0) & (scores_within(together, labels, "mean") >= 0.4)] = 1
    assert (intra != labels).any()
    assert loss.item() == pytest.approx(bce(logits, labels) + bce(logits, intra), rel=1e-9)


def test_the_direction_of_a_class_gives_the_mean_cosine_with_all_its_known_positives(task):
    objective = SSTObjective(DECOUPLING, inter=Inter(0.5, 1.0))
    state = {}
    torch.manual_seed(0)
    made = objective.modules(FeatureMap(WIDTH, "mean"), task)
    modules = {name: make().double() for name, make in made.items()}
    observed = task.observed.copy()
    observed[:, 0] = np.minimum(observed[:, 0], 0)  # a class without any known positive
    maps = random(len(observed), WIDTH, 3, 3)

    def over_training(function):
        return torch.cat([function(maps[part], part) for part in torch.arange(len(maps)).split(7)])

    altered = type(task)(**{**vars(task), "observed": observed})
    with torch.no_grad():
        objective.begin_epoch(EpochStart(altered, over_training, torch.Generator()), modules, state)
        own = objective.decoupling.class_features(maps, modules).numpy()
        given = torch.from_numpy(observed[:5])
        found = objective.rules(torch.from_numpy(own[:5]), None, given, modules, state)["inter"].scores
    for n, k in itertools.product(range(5), range(task.num_classes)):
        others = [cosine(own[n, k], own[m, k]) for m in range(len(maps)) if observed[m, k] == 1]
        assert found[n, k].item() == pytest.approx(np.mean(others) if others else 0, rel=1e-9, abs=1e-12)


def test_pseudo_labels_pass_no_gradient_to_what_they_come_from(task):
    state = {f"counted/{name}": torch.tensor(0) for name in ("images", "intra", "inter")}
    objective = SSTObjective(DECOUPLING, None, LearnedPairs(5), None, Intra(0.4, 1.0, "mean"))
    loss, noted, _, modules = a_step(task, objective, state)
    loss.backward()
    assert noted[MODIFIED].any()
    assert all(parameter.grad is None for parameter in modules["pairs"].parameters())


# What is shared


def config(method="sst", **values):
    return resolve(tiny.tiny(method) | values)


def released(**values):
    """SST with the release's thresholds, in epochs 1 to 20."""
    return [SST(SSTSettings(**values)).objective(epoch) for epoch in range(1, 21)]


def test_with_both_transfers_off_it_is_ssgrl():
    off, ssgrl = config(ist=False, cst=False), config("ssgrl")
    assert [off.recipe(epoch) for epoch in range(1, 21)] == [ssgrl.recipe(epoch) for epoch in range(1, 21)]
    assert off.keys() == ssgrl.keys()


def test_ist_that_nothing_teaches_is_ssgrl_until_there_are_pseudo_labels():
    for own in ({"ist_weight": 0}, {"cooccurrence": "statistical"}):
        keys, ssgrl = config(cst=False, start_epoch=3, **own).keys(), config("ssgrl").keys()
        assert keys[:3] == ssgrl[:3]
        assert keys[3] != ssgrl[3]


def test_cst_without_a_bank_is_the_contrastive_loss_until_there_are_pseudo_labels():
    for epoch, contrastive in ((1, Contrastive(0.05, ramp=True)), (5, Contrastive(0.05))):
        objective = SST(SSTSettings(ist=False, inter_score="all_positives")).objective(epoch)
        assert objective == DecoupledObjective(SSTSettings().decoupled(), contrastive)
    alone = SST(SSTSettings(ist=False, inter_score="all_positives", contrastive_weight=0)).objective(5)
    assert alone == config("ssgrl").recipe(5).objective


def test_the_contrastive_loss_is_off_with_cst_and_l_ist_with_ist():
    assert {objective.contrastive for objective in released(cst=False)} == {None}
    assert all(not hasattr(objective, "bank") or objective.bank is None for objective in released(cst=False))
    for objective in released(ist=False):
        assert (objective.pairs, objective.pair_loss) == (None, None)


def test_losses_grow_over_the_first_epoch_alone():
    first, *later = released()
    assert (first.pair_loss, first.contrastive) == (PairLoss(10.0, ramp=True), Contrastive(0.05, ramp=True))
    assert {(objective.pair_loss, objective.contrastive) for objective in later} == {
        (PairLoss(10.0), Contrastive(0.05))
    }


@pytest.mark.parametrize("name", ["intra", "inter"])
def test_settings_with_other_minima_are_the_same_until_the_threshold_reaches_one_of_them(name):
    floors = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8]
    chains = {floor: released(**{f"theta_{name}_min": floor}) for floor in floors}
    for low, high in itertools.combinations(floors, 2):
        same = [a == b for a, b in zip(chains[low], chains[high], strict=True)]
        # 0.95 in epoch 6, and 0.025 less in each: `high` is reached exactly, and left by the other in the next epoch.
        reached = 6 + round((0.95 - high) / 0.025)
        assert same == [epoch <= reached for epoch in range(1, 21)]


def test_a_threshold_of_one_switches_its_term_off():
    objective = released(theta_intra_start=1, theta_intra_step=0)[9]
    assert objective.intra is None and objective.inter is not None
    assert objective.pairs is not None, "L_ist needs the pair head all the same"


def test_without_a_use_for_it_there_is_no_pair_head():
    assert released(ist_weight=0)[4].pairs is None
    assert released(ist_weight=0)[5].pairs == LearnedPairs(32)
    assert released(intra_weight=0, ist_weight=0)[5].pairs is None
    assert released(inter_weight=0)[5].bank is None


def test_before_pseudo_labels_only_what_is_taught_acts():
    assert released(inter_score="all_positives")[4] == PairObjective(
        SSTSettings().decoupled(), Contrastive(0.05), LearnedPairs(32), PairLoss(10.0)
    )


def test_the_readings_of_the_text_are_in_every_epochs_objective_and_off_by_default():
    text = released(ist_log="unshifted", bce_mean="image", contrastive_pairs="with_unknown")
    for theirs, ours in zip(released(), text, strict=True):
        assert (theirs.pair_loss.unshifted, theirs.per_image, theirs.contrastive.with_unknown) == (None,) * 3
        assert (ours.pair_loss.unshifted, ours.per_image, ours.contrastive.with_unknown) == (True,) * 3
    for method in ("ssgrl", "kggr", "sst", "hst", "sarb", "dsrb", "mixup"):
        given = config(method, bce_mean="image")
        assert all(given.recipe(epoch).objective.per_image for epoch in range(1, 21)), method


# Training


def test_training_adds_pseudo_labels_from_the_start_epoch_on_and_says_how_many():
    trained = tiny.run(config())
    first, *later = trained.metrics
    assert not [name for name in first if "theta" in name or "pseudo" in name]
    assert [epoch["train/theta_intra"] for epoch in later] == [0.5, 0.4, 0.3]
    assert [epoch["train/theta_inter"] for epoch in later] == [0.97, 0.95, 0.95]
    for name in ("intra", "inter"):
        assert all(epoch[f"train/pseudo_{name}"] > 0 for epoch in later)
    assert all(int(state["method/counted/images"]) == 40 for state in trained.states[1:])


def test_the_bank_fills_from_the_first_epoch_on_with_features_of_known_positives():
    settings = config()
    observed = data.load(settings.data).observed
    bank = tiny.run(settings).states[1]["method/bank"]
    filled = bank.abs().sum(2) > 0
    np.testing.assert_array_equal(filled.sum(1), np.minimum((observed > 0).sum(0), 3))


def test_the_other_score_across_images_keeps_no_bank_and_trains_too():
    trained = tiny.run(config(inter_score="all_positives"))
    assert not [name for name in trained.states[-1] if "bank" in name]
    assert trained.metrics[1]["train/pseudo_inter"] > 0


def test_statistics_are_no_part_of_the_state():
    trained = tiny.run(config(cooccurrence="statistical_known"))
    assert not [name for name in trained.states[-1] if name.startswith(("module/pairs", "module/statistics"))]
    assert trained.metrics[1]["train/pseudo_intra"] > 0


def test_semantic_attention_takes_the_place_of_semantic_decoupling():
    trained = tiny.run(config(decoupling="semantic_attention"))
    assert trained.metrics[-1]["train/pseudo_inter"] >= 0
    assert np.isfinite(trained.metrics[-1]["train/loss"])
