"""GCN-ML: the graph of the labels, the generated classifiers and their attention, against numbers and loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.contract.head import FeatureMap
from methods.gcn_ml import Correlations, GCNObjective
from methods.networks.graph_classifier import GraphClassifier
from methods.training.config import resolve
from tests.golden_cases import cases, load
from tests.methods import tiny

WIDTH, HIDDEN = 5, 4
LABELS = np.random.default_rng(3).choice([-1, 0, 1], size=(30, 6)).astype(np.int8)
LABELS[:, 4] = np.minimum(LABELS[:, 4], 0)  # class 4 has no known positive


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


def by_loops(labels, threshold, weight, diagonal, both_known=False):
    """G (K, K), entry by entry."""
    images, classes = labels.shape
    edges = np.zeros((classes, classes))
    for i in range(classes):
        for j in range(classes):
            among = [n for n in range(images) if labels[n, i] == 1 and (not both_known or labels[n, j] != 0)]
            together = [n for n in among if labels[n, j] == 1]
            edges[i, j] = i != j and bool(among) and len(together) / len(among) >= threshold
    correlations = np.zeros((classes, classes))
    for i in range(classes):
        for j in range(classes):
            correlations[i, j] = weight * edges[i, j] / (sum(edges[:, j]) + 1e-6) + diagonal * (i == j)
    sums = correlations.sum(axis=1)
    return np.array([[correlations[j, i] / np.sqrt(sums[i] * sums[j]) for j in range(classes)] for i in range(classes)])


def classifier(words, graph, slope=0.2, width=WIDTH, hidden=HIDDEN):
    torch.manual_seed(0)
    return GraphClassifier(width, torch.tensor(words), torch.tensor(graph), hidden, slope).double()


@pytest.mark.parametrize("path", cases("net_mlgcn"))
def test_golden_logits_of_the_method(path):
    case = load(path)
    width, hidden = case.in_feature_map.shape[1], case.weight_gc1_weight.shape[1]
    module = classifier(case.in_word_vectors, case.out_A_normalised, width=width, hidden=hidden)
    released = {"gc1": torch.tensor(case.weight_gc1_weight), "gc2": torch.tensor(case.weight_gc2_weight)}
    module.load_state_dict(released)
    features = torch.tensor(case.in_feature_map, requires_grad=True)
    logits = GCNObjective(hidden, 0.2).logits(features, {"classifier": module})
    close(logits.detach(), case.out_logits)
    (logits * torch.tensor(case.in_cotangent)).sum().backward()
    # Each channel's gradient arrives at its largest position.
    close(features.grad.sum((2, 3)), case.out_grad_pooled)
    close(module.gc1.grad, case.out_grad_weight_gc1_weight)
    close(module.gc2.grad, case.out_grad_weight_gc2_weight)


@pytest.mark.parametrize("path", cases("net_mlgcn"))
def test_golden_graph_of_counts(path):
    case = load(path)
    conditional = torch.tensor(case.in_pair_counts / case.in_class_counts[:, None])
    close(Correlations(case.param_threshold, 0.25).of(conditional), case.out_A_normalised)


@pytest.mark.parametrize("both_known", [None, True])
@pytest.mark.parametrize("remainder", [None, True])
@pytest.mark.parametrize(("threshold", "weight"), [(0.3, 0.25), (0.4, 0.25), (0.05, 0.4)])
def test_the_graph_is_counted_from_known_labels_as_by_loops(both_known, remainder, threshold, weight):
    found = Correlations(threshold, weight, remainder, both_known).graph(torch.from_numpy(LABELS))
    diagonal = 1 - weight if remainder else 1
    close(found, by_loops(LABELS, threshold, weight, diagonal, bool(both_known)))
    assert (found.numpy() > 0).sum() > len(found), "there are edges"


def test_a_class_without_known_positives_hears_of_none_and_is_heard_by_none():
    graph = Correlations(0.05, 0.25).graph(torch.from_numpy(LABELS))
    others = [0, 1, 2, 3, 5]
    assert graph[4, 4] == 1
    assert not graph[4, others].any()
    assert not graph[others, 4].any()


def test_with_both_known_the_graph_is_that_of_full_labels_however_few_are_known():
    # Classes 0 and 1 are in the same images; only the first half of the labels is known.
    full = np.tile([[1, 1, -1], [-1, -1, 1]], (40, 1)).astype(np.int8)
    random = np.random.default_rng(0)
    known = np.where(random.random(full.shape) < 0.4, full, 0).astype(np.int8)
    expected = Correlations(0.9, 0.25).graph(torch.from_numpy(full))
    assert expected[0, 1] > 0
    close(Correlations(0.9, 0.25, both_known=True).graph(torch.from_numpy(known)), expected)
    close(Correlations(0.9, 0.25).graph(torch.from_numpy(known)), torch.eye(3))


@given(
    st.lists(st.lists(st.sampled_from([-1, 0, 1]), min_size=4, max_size=4), min_size=1, max_size=8),
    st.sampled_from([0.1, 0.4, 1.0]),
    st.sampled_from([0.25, 0.9]),
)
def test_the_graph_is_finite_and_that_of_loops_whatever_the_labels(labels, threshold, weight):
    observed = np.array(labels, dtype=np.int8)
    graph = Correlations(threshold, weight, remainder=True).graph(torch.from_numpy(observed)).numpy()
    assert np.isfinite(graph).all()
    close(graph, by_loops(observed, threshold, weight, 1 - weight))


def test_one_steps_loss_is_that_of_loops():
    random = np.random.default_rng(1)
    features = random.normal(size=(4, WIDTH, 2, 3))
    words = random.normal(size=(6, 7))
    labels = LABELS[:4]
    module = classifier(words, by_loops(LABELS, 0.3, 0.25, 1.0))
    objective = GCNObjective(HIDDEN, 0.2, Correlations(0.3, 0.25))
    batch = tiny.batch(torch.tensor(features), torch.tensor(labels))
    loss = objective.loss(batch, {"classifier": module}, {}).item()

    first, second = module.gc1.detach().numpy(), module.gc2.detach().numpy()
    graph, entries = by_loops(LABELS, 0.3, 0.25, 1.0), []
    hidden = graph @ words @ first
    generated = graph @ np.where(hidden > 0, hidden, 0.2 * hidden) @ second
    for b in range(4):
        pooled = [max(features[b, d].ravel()) for d in range(WIDTH)]
        for k in np.flatnonzero(labels[b]):
            entries.append(np.logaddexp(0, -labels[b, k] * np.dot(pooled, generated[k])))
    assert loss == pytest.approx(np.mean(entries), rel=1e-12)


def test_attention_is_what_the_generated_classifiers_say_of_each_position_alone():
    random = np.random.default_rng(2)
    features = torch.tensor(random.normal(size=(2, WIDTH, 3, 2)))
    modules = {"classifier": classifier(random.normal(size=(6, 7)), by_loops(LABELS, 0.3, 0.25, 1.0))}
    objective = GCNObjective(HIDDEN, 0.2)
    maps = objective.attention(features, modules).detach()
    assert maps.shape == (2, 6, 3, 2)
    for y in range(3):
        for x in range(2):
            alone = objective.logits(features[:, :, y : y + 1, x : x + 1], modules).detach()
            close(maps[:, :, y, x], alone)


# In a trial


def config(**values):
    return resolve(tiny.tiny("gcn_ml", **values))


def test_the_classifier_is_made_of_the_tasks_words_and_known_labels():
    given = config(threshold=0.05, hidden_width=HIDDEN, diagonal="paper", reweight=0.4)
    task = tiny.new_training(given).task
    modules = given.recipe(1).objective.modules(FeatureMap(WIDTH, "mean"), task)
    module = modules["classifier"]()
    expected = by_loops(task.observed, 0.05, 0.4, 0.6)
    np.testing.assert_allclose(module.correlation, expected, rtol=1e-6)
    assert torch.equal(module.words, torch.from_numpy(task.word_vectors))
    assert module.classifiers().shape == (20, WIDTH)
    assert (expected > 0).sum() > 20, "there are edges"


def test_without_neighbours_nothing_that_shapes_the_graph_is_in_the_key():
    alone = config(reweight=0.0).keys()
    for values in ({"threshold": 0.4}, {"diagonal": "paper"}, {"counted": "both_known"}):
        assert config(reweight=0.0, **values).keys() == alone
        assert config(**values).keys()[1] != config().keys()[1]
    assert alone[1] != config().keys()[1]


def test_training_brings_the_loss_down_and_moves_both_layers():
    trained = tiny.run(config(**{"train.epochs": 8}))
    losses = [epoch["train/loss"] for epoch in trained.metrics]
    assert losses[-1] < 0.8 * losses[0]
    first, last = trained.states[1], trained.states[-1]
    moved = [name for name in tiny.different(first, last) if name.startswith("module/classifier/")]
    assert len(moved) == 2, "words and graph stand still"
