"""KGGR: its forward pass and a step's loss class by class in NumPy, what passes between classifiers, and SSGRL."""

import dataclasses

import numpy as np
import pytest
import torch

from methods.components.decoupling import Decoupling
from methods.contract.head import FeatureMap
from methods.kggr import KGGRObjective, RoutedHead
from methods.networks.semantic_decoupling import SemanticDecoupling
from methods.training.config import resolve
from tests.methods import tiny

CLASSES, WIDTH, ATTENTION = 5, 4, 3
# Class 4 is never seen with another one.
LABELS = np.array(
    [[1, 1, 0, -1, -1], [1, 0, 1, -1, 0], [0, 1, -1, 1, -1], [-1, -1, 0, -1, 1], [1, 1, -1, 0, -1], [0, -1, 1, 1, 0]],
    dtype=np.int8,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(weights, name, x):
    """A layer of `weights` by name; without a bias where it has none."""
    return weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", 0)


def numpy_weights(module):
    return {name: tensor.detach().double().numpy() for name, tensor in module.named_parameters()}


def probabilities(labels):
    """A(i, j): of the images with i known to be there, the share in which j is known to be there too."""
    adjacency = np.zeros((labels.shape[1],) * 2)
    for i in range(labels.shape[1]):
        with_i = labels[labels[:, i] == 1]
        for j in range(labels.shape[1]):
            adjacency[i, j] = np.mean(with_i[:, j] == 1) if len(with_i) else 0
    return adjacency


def propagated(weights, prefix, states, adjacency, steps):
    """Node states (K, D) after `steps` steps of a gated graph, node by node."""
    gates = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    for _ in range(steps):
        following = np.empty_like(states)
        for c in range(len(states)):
            heard = sum(adjacency[c, j] * states[j] for j in range(len(states)))
            told = sum(adjacency[j, c] * states[j] for j in range(len(states)))
            message = np.concatenate([heard, told])
            update = sigmoid(linear(gates, "update_w", message) + linear(gates, "update_u", states[c]))
            reset = sigmoid(linear(gates, "reset_w", message) + linear(gates, "reset_u", states[c]))
            new = np.tanh(linear(gates, "candidate_w", message) + linear(gates, "candidate_u", reset * states[c]))
            following[c] = (1 - update) * states[c] + update * new
        states = following
    return states


def class_features(weights, features, words):
    """Semantic decoupling of one feature map (D, H, W): (K, D)."""
    positions = features.reshape(len(features), -1).T
    found = []
    for word in words:
        scores = []
        for position in positions:
            joint = np.tanh(linear(weights, "fc1", position) * linear(weights, "fc2", word))
            scores.append(linear(weights, "fc4", linear(weights, "fc3", joint))[0])
        attention = np.exp(scores) / np.sum(np.exp(scores))
        found.append(sum(share * position for share, position in zip(attention, positions, strict=True)))
    return np.array(found)


def classifiers_by_loops(head, adjacency, steps):
    routed = propagated(head, "graph.", head["weight"], adjacency, steps)
    pairs = zip(routed, head["weight"], strict=True)
    return np.array([linear(head, "output", np.concatenate([last, first])) for last, first in pairs])


def logits_by_loops(modules, features, words, adjacency, graph_steps, weight_steps):
    """Logits (B, K) of feature maps (B, D, H, W)."""
    decoupling, head = numpy_weights(modules["decoupling"]), numpy_weights(modules["head"])
    classifiers = classifiers_by_loops(head, adjacency, weight_steps)
    logits = np.empty((len(features), len(words)))
    for b, image in enumerate(features):
        of_classes = class_features(decoupling, image, words)
        heard = of_classes
        if graph_steps:
            heard = propagated(numpy_weights(modules["graph"]), "", of_classes, adjacency, graph_steps)
        for c in range(len(words)):
            routed = np.tanh(linear(head, "fc", np.concatenate([heard[c], of_classes[c]])))
            logits[b, c] = routed @ classifiers[c] + head["bias"][c]
    return logits


@pytest.fixture(scope="module")
def task():
    """The tiny world's task with other labels and words: five classes in six images."""
    real = tiny.new_training(resolve(tiny.tiny("kggr"))).task
    words = np.random.default_rng(7).normal(size=(CLASSES, 6)).astype(np.float32)
    return dataclasses.replace(real, classes=real.classes[:CLASSES], observed=LABELS, word_vectors=words)


def made(objective, task):
    torch.manual_seed(0)
    modules = {name: make().double() for name, make in objective.modules(FeatureMap(WIDTH, "mean"), task).items()}
    return modules, np.random.default_rng(1).normal(size=(len(LABELS), WIDTH, 2, 3))


@pytest.mark.parametrize(("graph_steps", "weight_steps"), [(3, 3), (2, 1), (None, 2)])
def test_forward_pass_and_loss_of_a_step_are_those_of_loops(task, graph_steps, weight_steps):
    objective = KGGRObjective(Decoupling(ATTENTION, None, graph_steps), weight_steps=weight_steps)
    modules, features = made(objective, task)
    expected = logits_by_loops(
        modules, features, task.word_vectors.astype(float), probabilities(LABELS), graph_steps, weight_steps
    )
    found = objective.logits(torch.tensor(features), modules).detach()
    # The graph is kept in single precision.
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    loss = objective.loss(tiny.batch(torch.tensor(features), torch.tensor(LABELS)), modules, {}).item()
    entries = [np.logaddexp(0, -LABELS[b, c] * expected[b, c]) for b, c in np.argwhere(LABELS)]
    assert loss == pytest.approx(np.mean(entries), rel=1e-6)


def test_attention_is_that_of_semantic_decoupling(task):
    objective = KGGRObjective(Decoupling(ATTENTION, None, 3), weight_steps=3)
    modules, features = made(objective, task)
    maps = objective.attention(torch.tensor(features), modules)
    assert isinstance(modules["decoupling"], SemanticDecoupling)
    assert torch.equal(maps, modules["decoupling"].attention(torch.tensor(features)))


# What passes between classifiers


def head_of(adjacency, steps):
    torch.manual_seed(3)
    return RoutedHead(WIDTH, torch.tensor(adjacency), steps).double()


def influence(head, target):
    """Which classes' first classifiers the classifier of `target` depends on."""
    head.zero_grad()
    head.classifiers()[target].sum().backward()
    return [c for c in range(CLASSES) if head.weight.grad[c].abs().max() > 0]


def test_a_classifier_hears_of_its_neighbours_as_many_steps_away_as_there_are():
    chain = np.zeros((CLASSES, CLASSES))
    for c in range(CLASSES - 1):
        chain[c, c + 1] = 0.5  # one way is enough: messages go both ways
    assert [influence(head_of(chain, steps), 0) for steps in (1, 2, 3)] == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert influence(head_of(chain, 1), 2) == [1, 2, 3]


def test_a_class_that_is_seen_with_no_other_keeps_to_itself():
    assert influence(head_of(probabilities(LABELS), 3), 4) == [4]
    assert influence(head_of(probabilities(LABELS), 3), 0) == [0, 1, 2, 3]


def test_a_class_without_known_labels_in_a_batch_still_has_its_classifier_trained_by_its_neighbours(task):
    objective = KGGRObjective(Decoupling(ATTENTION, None, 3), weight_steps=3)
    modules, features = made(objective, task)
    labels = np.where(np.arange(CLASSES) == 2, 0, LABELS)  # nothing is known of class 2
    objective.loss(tiny.batch(torch.tensor(features), torch.tensor(labels)), modules, {}).backward()
    gradients = modules["head"].weight.grad.abs().amax(1)
    assert gradients[2] > 0
    assert modules["head"].bias.grad[2] == 0, "only the graph can have brought it"


# In a trial


def config(method="kggr", **values):
    return resolve(tiny.tiny(method, **values))


def test_the_graphs_are_those_of_the_tasks_known_labels():
    given = config(**{"data.known": 0.4})
    task = tiny.new_training(given).task
    modules = given.recipe(1).objective.modules(FeatureMap(WIDTH, "mean"), task)
    head, graph = modules["head"](), modules["graph"]()
    assert torch.equal(head.graph.both_ways, graph.both_ways)
    np.testing.assert_allclose(graph.both_ways[::2], probabilities(task.observed), rtol=1e-6)
    assert head.weight.shape == (20, WIDTH)


def test_without_steps_over_the_classifiers_it_is_ssgrl():
    assert config(weight_steps=0).keys() == config("ssgrl").keys()
    assert config(weight_steps=0, graph_steps=0).keys() == config("ssgrl", graph_steps=0).keys()
    assert config().keys()[0] == config("ssgrl").keys()[0]
    assert config().keys()[1] != config("ssgrl").keys()[1]


def test_everything_that_ssgrl_has_too_starts_from_the_same_weights():
    first, other = (
        tiny.run(config(method, **{"train.epochs": 1, "train.learning_rate": 1e-9})).states[1]
        for method in ("kggr", "ssgrl")
    )
    common = [name for name in first if name.startswith("module/") and name in other]
    assert {"module/head/weight", "module/head/fc.weight", "module/graph/update_w.weight"} <= set(common)
    for name in common:
        torch.testing.assert_close(first[name], other[name], rtol=0, atol=1e-7)


def test_training_brings_the_loss_down_and_moves_every_part_of_the_routed_head():
    trained = tiny.run(config(**{"train.epochs": 8}))
    losses = [epoch["train/loss"] for epoch in trained.metrics]
    assert losses[-1] < 0.8 * losses[0]
    different = tiny.different(trained.states[1], trained.states[-1])
    moved = {name.split("/")[2].partition(".")[0] for name in different if name.startswith("module/head/")}
    assert moved == {"fc", "weight", "graph", "output", "bias"}
