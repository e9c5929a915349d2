"""Curriculum labeling: who is labelled, with what, from which scores, and what is shared before."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods import data
from methods.curriculum import CurriculumObjective, pseudo_labels
from methods.ignore_unobserved import IgnoreUnobservedObjective, ProportionWeight
from methods.training.config import resolve
from methods.training.loop import over_split
from methods.training.platforms import deterministic
from tests.methods import tiny

STRATEGIES = ("score", "positive_score", "proportion", "class_proportion")
property_test = settings(derandomize=True, deadline=None, max_examples=80)


@st.composite
def scored(draw):
    """Logits (N, K), on a coarse grid so that many are equal, and labels of +1, -1, 0."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 4)))
    logits = draw(arrays(np.float64, shape, elements=st.integers(-6, 6).map(lambda x: x / 2)))
    return logits, draw(arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 0, 1])))


def entry_by_entry(logits, observed, strategy, threshold, proportion):
    """The rule in plain Python."""
    unknown = [tuple(entry) for entry in np.argwhere(observed == 0).tolist()]
    if strategy == "score":
        easy = [entry for entry in unknown if abs(logits[entry]) >= threshold]
    elif strategy == "positive_score":
        easy = [entry for entry in unknown if logits[entry] >= threshold and logits[entry] > 0]
    else:
        columns = range(logits.shape[1]) if strategy == "class_proportion" else [None]
        easy = []
        for column in columns:
            own = [entry for entry in unknown if column in (None, entry[1])]
            own.sort(key=lambda entry: -abs(logits[entry]))
            easy += own[: math.floor(Fraction(str(proportion)) * len(own))]
    labels = observed.copy()
    for entry in easy:
        labels[entry] = 1 if logits[entry] > 0 else -1
    return labels


@property_test
@given(scored(), st.sampled_from(STRATEGIES), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.1, 0.57, 0.7, 1.0]))
def test_entries_are_labelled_as_the_rule_says_one_by_one(given, strategy, threshold, proportion):
    logits, observed = given
    labels = pseudo_labels(
        torch.tensor(logits), torch.tensor(observed), strategy, threshold=threshold, proportion=proportion
    )
    assert labels.dtype == torch.int8
    np.testing.assert_array_equal(labels, entry_by_entry(logits, observed, strategy, threshold, proportion))


def test_a_share_is_exact_where_floats_would_round_it_down():
    observed = torch.zeros(100, 1, dtype=torch.int8)
    logits = torch.linspace(1, 2, 100)[:, None]
    assert int(pseudo_labels(logits, observed, "proportion", proportion=0.57).sum()) == 57, "0.57 x 100 is 56.99…"


def test_each_class_gets_its_own_share_however_sure_the_model_is_of_it():
    logits = torch.tensor([[9.0, 0.1], [8.0, -0.3], [7.0, 0.2], [6.0, -0.4]])
    observed = torch.zeros(4, 2, dtype=torch.int8)
    over_all = pseudo_labels(logits, observed, "proportion", proportion=0.5)
    by_class = pseudo_labels(logits, observed, "class_proportion", proportion=0.5)
    assert over_all.tolist() == [[1, 0]] * 4
    assert by_class.tolist() == [[1, 0], [1, -1], [0, 0], [0, -1]]


def test_positives_alone_are_labelled_where_only_they_are_asked_for():
    labels = pseudo_labels(
        torch.tensor([[3.0, -3.0, 0.0]]), torch.zeros(1, 3, dtype=torch.int8), "positive_score", threshold=0.0
    )
    assert labels.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("weight", [None, ProportionWeight(-4.45, 5.45, 1.0)])
@pytest.mark.parametrize("classes", [1, 6])
@pytest.mark.parametrize("known", ["some", "no positive of a class", "none of an image", "nothing"])
def test_a_step_is_partial_bce_on_known_and_pseudo_labels_together(weight, classes, known):
    random = np.random.default_rng(5)
    logits = random.normal(size=(4, classes)) * 2
    table = random.choice([-1, 0, 1], size=(9, classes)).astype(np.int8)
    rows = slice(2, 6)
    table[rows] = {"nothing": 0}.get(known, table[rows])
    if known == "no positive of a class":
        table[:, 0] = np.minimum(table[:, 0], 0)
    if known == "none of an image":
        table[3] = 0
    x = torch.tensor(logits, requires_grad=True)
    # What the batch was given is out of date once labels are filled in: the table is read.
    batch = tiny.batch(x, torch.zeros(4, classes, dtype=torch.int8), first=2)
    objective = CurriculumObjective("score", threshold=1.0, weight=weight)
    loss = objective.loss(batch, tiny.IDENTITY, {"labels": torch.tensor(table)})
    loss.backward()
    labels = table[rows]
    share = (labels != 0).mean(1, keepdims=True)
    weights = (1 if weight is None else -4.45 * share + 5.45) * (labels != 0) / logits.size
    assert loss.item() == pytest.approx((weights * np.logaddexp(0, -labels * logits)).sum(), rel=1e-12)
    gradient = weights * (1 / (1 + np.exp(-logits)) - (labels > 0))
    np.testing.assert_allclose(x.grad, gradient, rtol=1e-12, atol=1e-15)


def config(method="curriculum", **values):
    return resolve(tiny.tiny(method, **values))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_labels_are_those_that_the_model_gives_before_each_epoch_from_the_observed_ones(strategy):
    given = config(strategy=strategy, proportion=0.3, **{"train.learning_rate": 0.03})
    trained = tiny.run(given)
    training = tiny.new_training(given)
    observed = torch.from_numpy(data.load(given.data).observed)
    assert "method/labels" not in trained.states[1], "nothing is labelled in warm-up"
    tables = []
    for epoch in (2, 3, 4):
        recipe = given.recipe(epoch)
        with deterministic(given.train.threads):
            parts = recipe, training.task, training.feature_cache, given.seed, "train"
            before = over_split(trained.states[epoch - 1], *parts, recipe.objective.logits)
        table = trained.states[epoch]["method/labels"]
        expected = entry_by_entry(before, observed.numpy(), strategy, 0.2, 0.3)
        np.testing.assert_array_equal(table, expected)
        assert torch.equal(table[observed != 0], observed[observed != 0])
        assert (table[observed == 0] != 0).any()
        tables.append(table)
    assert not torch.equal(tables[0], tables[2])


@pytest.mark.parametrize("weighting", ["none", "known_proportion"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_warm_up_is_plain_partial_bce_and_shared_with_it(strategy, weighting):
    curriculum = config(strategy=strategy, weighting=weighting, warmup_epochs=2)
    plain = config("ignore_unobserved", weighting=weighting)
    assert curriculum.recipe(2) == plain.recipe(2)
    assert isinstance(plain.recipe(2).objective, IgnoreUnobservedObjective)
    assert curriculum.keys()[:3] == plain.keys()[:3]
    assert curriculum.keys()[3] != plain.keys()[3]


def test_what_another_strategy_needs_is_in_no_key():
    assert config(strategy="score", proportion=0.1).keys() == config(strategy="score", proportion=0.2).keys()
    assert config(strategy="proportion", threshold=1).keys() == config(strategy="proportion", threshold=2).keys()
    assert config(strategy="score", threshold=1).keys() != config(strategy="score", threshold=2).keys()


def test_where_everything_is_known_nothing_is_filled_in():
    given = config(**{"data.labels": "full"})
    table = tiny.run(given).states[-1]["method/labels"]
    np.testing.assert_array_equal(table, data.load(given.data).observed)
