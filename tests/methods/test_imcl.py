"""IMCL: one step against loops in NumPy, which atoms are chosen, the label graph, and the dictionary in the state."""

import itertools

import numpy as np
import pytest
import torch

from methods import data
from methods.contract.head import PooledClassifier
from methods.imcl import IMCLObjective, LabelGraph, asymmetric_sigmoid, filled_labels, sparse_code
from methods.training.config import resolve
from tests.methods import tiny

WIDTH, IMAGES = 5, 7


def predictions(features, weight, bias, c):
    u = features @ weight.T + bias - np.log(c) / 2
    return (np.exp(u) - np.exp(-u) / c) / (np.exp(u) + np.exp(-u))


def filled(predicted, labels, c):
    return np.where(labels == 1, 1.0, np.where(labels == -1, -1 / c, predicted))


def pursuit(y, f, labels, features, allowed, k, weights):
    """The atoms of one image and the coefficients of their labels, by loops and NumPy's least squares."""
    chosen, residuals, coefficients = [], [y, f], np.zeros(0)
    spaces = ((y, labels, weights[0]), (f, features, weights[1]))
    while len(chosen) < k:
        scores = {}
        for j in set(np.flatnonzero(allowed)) - set(chosen):
            inner = [residual @ atoms[j] for residual, (_, atoms, _) in zip(residuals, spaces, strict=True)]
            sign = sum(np.sign(value) for value, weight in zip(inner, weights, strict=True) if weight)
            gain = sum(
                weight * value**2 / (atoms[j] @ atoms[j]) / (target @ target)
                for value, (target, atoms, weight) in zip(inner, spaces, strict=True)
            )
            scores[j] = gain * sign
        if not scores or max(scores.values()) <= 0:
            break
        chosen.append(max(scores, key=scores.get))
        fits = [np.linalg.lstsq(atoms[chosen].T, target, rcond=1e-6)[0] for target, atoms, _ in spaces]
        residuals = [target - fit @ atoms[chosen] for fit, (target, atoms, _) in zip(fits, spaces, strict=True)]
        coefficients = fits[0]
    return chosen, coefficients


def step(world, objective, codes=None):
    """The loss of a batch by loops; `codes` are held constant where they are given."""
    c, (features, labels, rows) = objective.asymmetry, world["batch"]
    weight, bias, graph = world["weight"], world["bias"], world["graph"]
    predicted = predictions(world["dictionary_features"], weight, bias, c)
    dictionary = filled(predicted if graph is None else predicted @ graph, world["dictionary_labels"], c)
    targets = filled(predictions(features, weight, bias, c), labels, c)
    if codes is None:
        codes = [
            pursuit(
                targets[b], features[b], dictionary, world["dictionary_features"], world["dictionary_rows"] != rows[b],
                objective.atoms, (objective.label_weight, objective.feature_weight),
            )
            for b in range(len(rows))
        ]  # fmt: skip
    total = 0.0
    for b, (chosen, coefficients) in enumerate(codes):
        residual = targets[b] - coefficients @ dictionary[chosen] if chosen else targets[b]
        total += objective.label_weight * residual @ residual
        logits = features[b] @ weight.T + bias
        total += sum(np.logaddexp(0, -labels[b, k] * logits[k]) for k in np.flatnonzero(labels[b]))
    return total / labels.size, codes


def made(classes, known, seed=4):
    """A batch of four of seven images and a dictionary of five, with a classifier and a label graph."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(IMAGES, WIDTH)) + 0.5
    labels = random.choice([-1, 0, 0, 1], size=(IMAGES, classes)).astype(np.int8)
    if known == "nothing":
        labels[:] = 0
    if known == "no positive of a class":
        labels[:, 0] = np.minimum(labels[:, 0], 0)
    rows, dictionary = np.array([1, 2, 5, 6]), np.array([6, 0, 1, 3, 4])
    return {
        "batch": (features[rows], labels[rows], rows),
        "weight": random.normal(size=(classes, WIDTH)) / 2,
        "bias": random.normal(size=classes) / 2,
        "graph": np.eye(classes) + random.normal(size=(classes, classes)) / 10,
        "dictionary_rows": dictionary,
        "dictionary_features": features[dictionary],
        "dictionary_labels": labels[dictionary],
    }


def ours(world, objective):
    """The objective's loss after `backward`, and its modules."""
    features, labels, rows = map(torch.tensor, world["batch"])
    classifier = PooledClassifier(WIDTH, labels.shape[1], "mean").double()
    graph = LabelGraph(labels.numpy()).double()
    with torch.no_grad():
        classifier.linear.weight.copy_(torch.tensor(world["weight"]))
        classifier.linear.bias.copy_(torch.tensor(world["bias"]))
        if world["graph"] is not None:
            graph.weight.copy_(torch.tensor(world["graph"]))
    state = {name: torch.tensor(world[name]) for name in world if name.startswith("dictionary")}
    batch = tiny.Batch(features[:, :, None, None], labels, rows)
    loss = objective.loss(batch, {"classifier": classifier, "label_graph": graph}, state)
    loss.backward()
    return loss.item(), classifier, graph


@pytest.mark.parametrize("known", ["some", "no positive of a class", "nothing"])
@pytest.mark.parametrize("classes", [1, 4, 9])
@pytest.mark.parametrize(("graph", "atoms", "feature_weight"), [(1.0, 3, 0.25), (None, 3, 0.0), (1.0, 1, 2.0)])
def test_a_step_is_what_loops_make_of_it_with_the_gradient_of_constant_codes(
    classes, known, graph, atoms, feature_weight
):
    objective = IMCLObjective(0.5, feature_weight, atoms, 5, 2.0, graph)
    world = made(classes, known)
    if graph is None:
        world["graph"] = None
    loss, classifier, label_graph = ours(world, objective)
    expected, codes = step(world, objective)
    assert loss == pytest.approx(expected, rel=1e-7)
    checked = {"bias": classifier.linear.bias.grad, "weight": classifier.linear.weight.grad}
    if graph is not None:
        checked["graph"] = label_graph.weight.grad
    for name, gradient in checked.items():
        for entry in itertools.product(*map(range, gradient.shape)):
            sides = []
            for shift in (1e-5, -1e-5):
                moved = world[name].copy()
                moved[entry] += shift
                sides.append(step({**world, name: moved}, objective, codes)[0])
            assert gradient[entry].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_an_image_is_reconstructed_from_the_atoms_that_it_is_made_of_and_never_from_itself():
    random = torch.Generator().manual_seed(3)
    labels, features = (torch.rand(8, width, generator=random, dtype=torch.float64) for width in (6, 9))
    mixed = [0.7 * space[[2]] + 0.3 * space[[5]] for space in (labels, features)]
    allowed = torch.ones(1, 8, dtype=torch.bool)
    given = {"atoms": 2, "label_weight": 1.0, "feature_weight": 1.0}
    chosen, coefficients = sparse_code(*mixed, labels, features, allowed, **given)
    assert dict(zip(chosen[0].tolist(), coefficients[0].tolist(), strict=True)) == pytest.approx({2: 0.7, 5: 0.3})
    allowed[0, 2] = False
    assert 2 not in sparse_code(*mixed, labels, features, allowed, **given)[0]


def test_no_atom_is_used_where_none_is_allowed_or_points_the_same_way():
    ones = torch.ones(1, 3)
    given = {"atoms": 3, "label_weight": 1.0, "feature_weight": 1.0}
    for sign, allowed in ((1, False), (-1, True)):
        where = torch.full((1, 2), allowed)
        _, coefficients = sparse_code(ones, ones, sign * ones.repeat(2, 1), sign * ones.repeat(2, 1), where, **given)
        assert not coefficients.any()


def test_atoms_that_are_multiples_of_each_other_or_nothing_at_all_do_no_harm():
    labels = torch.tensor([[1.0], [0.5], [0.0]])
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    given = {"atoms": 3, "label_weight": 1.0, "feature_weight": 1.0}
    where = torch.ones(2, 3, dtype=torch.bool)
    chosen, coefficients = sparse_code(torch.tensor([[1.0], [0.0]]), features[[0, 2]], labels, features, where, **given)
    assert coefficients.isfinite().all()
    assert (coefficients * labels[chosen, 0]).sum(1).tolist() == pytest.approx([1.0, 0.0], abs=1e-5)


def test_predictions_lie_between_a_negative_and_a_positive():
    logits = torch.tensor([-100.0, 0.0, 100.0], dtype=torch.float64)
    assert asymmetric_sigmoid(logits, 1.0).tolist() == pytest.approx([-1, 0, 1])
    assert asymmetric_sigmoid(logits, 2.0).tolist() == pytest.approx([-0.5, 0, 1])
    known = filled_labels(torch.full((3,), 0.3), torch.tensor([-1, 0, 1], dtype=torch.int8), 2.0)
    assert known.tolist() == pytest.approx([-0.5, 0.3, 1.0])


def test_the_label_graph_starts_from_positives_seen_together_and_from_the_identity_where_there_are_none():
    observed = np.array([[1, 1, 0], [1, 0, 0], [0, -1, 0]], dtype=np.int8)
    # Given class 0, class 1 in one of two images; given class 1, class 0 always; class 2 is never seen.
    conditional = np.array([[1, 0.5, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(LabelGraph(observed).weight.detach(), conditional / conditional.sum(0))
    np.testing.assert_array_equal(LabelGraph(np.zeros((4, 3), np.int8)).weight.detach(), np.eye(3))


def config(**values):
    return resolve(tiny.tiny("imcl", **values))


def test_the_dictionary_is_drawn_once_and_its_features_follow_the_backbone():
    given = config()
    trained = tiny.run(given)
    observed = torch.from_numpy(data.load(given.data).observed)
    assert "method/dictionary_rows" not in trained.states[1], "no dictionary in warm-up"
    first, *later = trained.states[2:]
    rows = first["method/dictionary_rows"]
    assert len(set(rows.tolist())) == 12
    assert torch.equal(first["method/dictionary_labels"], observed[rows])
    assert all(torch.equal(state["method/dictionary_rows"], rows) for state in later)
    assert not torch.equal(first["method/dictionary_features"], later[0]["method/dictionary_features"])
    graphs = [state["module/label_graph/weight"] for state in trained.states[2:]]
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(graphs))


def test_warm_up_and_a_weight_of_nothing_are_naive_iu():
    plain = resolve(tiny.tiny("ignore_unobserved"))
    assert config(warmup_epochs=2).keys()[:3] == plain.keys()[:3]
    assert config(warmup_epochs=2).keys()[3] != plain.keys()[3]
    assert config(label_weight=0).keys() == plain.keys()


def test_without_a_label_graph_neither_its_module_nor_its_rate_is_there():
    given = config(label_graph=False)
    assert given.recipe(2).learning_rates_own is None
    assert not any("label_graph" in name for name in tiny.run(given).states[-1])
    assert config(graph_multiplier=0.5).recipe(2).learning_rates_own == (("label_graph", 0.0015),)
