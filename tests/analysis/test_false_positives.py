"""How often each kind of test, and a paper's claims together, find what is not there: in 2,000 made-up nulls, the worst
of those that the statement excludes. The kinds get their rows from a part that is made of numbers alone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.claims import kinds
from analysis.claims.judging import CONTRADICTED, LEVEL, REPRODUCED, Judged, verdicts
from analysis.names import Names
from analysis.tables.chosen import chosen_by_the_other_seeds

NULLS, SEEDS, EPOCHS = 2000, 5, 12
ERROR = 3 * np.sqrt(LEVEL * (1 - LEVEL) / NULLS)  # three standard errors of a share that is the level


class Made:
    """A `kinds.Part` whose rows are arrays: of seeds, of seeds by epochs, or of classes by seeds. A row is found by its
    name, or by its name and a value of an axis."""

    record = SimpleNamespace(names=Names({}, {}), space={"name": "made"})
    metric, suffix, of_metric = "test/map", "", ""
    place = kinds.Part.place

    def __init__(self, rows, **what):
        self.rows, self.what = rows, what

    def by_seed(self, row, at=None, over=None, metric=None):
        return dict(enumerate(self.rows[(row, *at.values()) if at else row]))

    def of_classes(self, row):
        return {name: dict(enumerate(values)) for name, values in enumerate(self.rows[row])}

    def curves(self, row, fewest, since=1, until=None):
        return {seed: (range(since, EPOCHS + 1), curve[since - 1 :]) for seed, curve in enumerate(self.rows[row])}


def noise(random, *shape, scale=1.0):
    """Seeds that differ by much more than rows do, as they do in sweeps."""
    return random.normal(0, scale, shape)


def pairs(random, lead=0.0, scale=1.0):
    base = noise(random, SEEDS, scale=10)
    return {"A": base + lead + noise(random, SEEDS, scale=scale), "B": base + noise(random, SEEDS, scale=scale)}


def of_greater(random):
    yield from kinds.greater(Made(pairs(random)), "A", "B")


def of_greater_with_a_margin(random):
    yield from kinds.greater(Made(pairs(random, -0.5), margin=0.5), "A", "B")


def of_equivalent(random):
    yield from kinds.equivalent(Made(pairs(random, 0.5, 0.3)), "A", "B")


def of_interaction(random):
    gain = random.normal(2, 3)
    rows = {(row, at): values for at in (0.1, 0.9) for row, values in pairs(random, gain).items()}
    yield from kinds.interaction(Made(rows, axis="known", larger_at=0.1, smaller_at=0.9), "A", "B")


def of_largest_drop(random):
    drop = random.normal(5, 3)
    rows = {(row, at): values + at * drop for at in (0.1, 0.9) for row, values in pairs(random).items()}
    yield from kinds.largest_drop(Made(rows, axis="known", **{"from": 0.9, "to": 0.1}), "A", "B")


def of_trend(random):
    curves = 5 + noise(random, SEEDS, EPOCHS)
    yield from kinds.trend(Made({"A": curves}, direction="falls"), "A", None)


def of_smoother(random):
    line = -np.arange(EPOCHS)
    rows = {row: line + noise(random, SEEDS, EPOCHS) + mean for row, mean in (("A", 20), ("B", 90))}
    yield from kinds.smoother(Made(rows, since=4), "A", "B")


def of_most_settings(random):
    """Of five settings the row is far ahead in two, and equal to the best of the others in three: that is not most."""
    parts, shared = [], noise(random, SEEDS)
    for lead in (30.0, 30.0, 0.0, 0.0, 0.0):
        rows = pairs(random, lead)
        # Settings share seeds, and what a seed gives the row in one it may give it in another.
        parts.append(Made({"A": rows["A"] + shared, "B": rows["B"], "C": rows["B"] - 30}))
    yield kinds.most_settings(parts, "A", ["B", "C"])


def of_most_settings_opposite(random):
    """Of five settings the row is far behind in two: three of them could still be won, so nothing is contradicted."""
    parts = []
    for behind in (30.0, 30.0, 0.0, 0.0, 0.0):
        rows = pairs(random, -behind)
        parts.append(Made({**rows, "C": rows["A"] + behind + noise(random, SEEDS)}))
    yield kinds.most_settings(parts, "A", ["B", "C"])


class Chosen(Made):
    """Of an axis with the values 0 to 4, the part that lets `chosen_by_the_other_seeds` choose among inner values.
    Val is test here, so a choice by a seed's own result would show."""

    def values(self, row, axis):
        return [0, 1, 2, 3, 4]

    def by_seed(self, row, at=None, over=None, metric=None):
        (value,) = at.values()
        of_axis = self.rows[row]
        if not isinstance(value, list):
            return dict(enumerate(of_axis[:, value]))
        inner = [(one, seed, of_axis[seed, one]) for one in value for seed in range(SEEDS)]
        chosen = chosen_by_the_other_seeds(pd.DataFrame(inner, columns=["setting", "seed", "score"]), high_score=True)
        return dict(zip(chosen["seed"], chosen["score"], strict=True))


def of_inner_optimum(random):
    """The inner values are as good as one end, and the other end is far below."""
    yield from kinds.inner_optimum(Chosen({"A": noise(random, SEEDS, 5) - [0, 0, 0, 0, 30]}, axis="delta"), "A", None)


def of_inner_optimum_opposite(random):
    """As above: of the end that is as good, it is not shown that it is better."""
    yield from kinds.inner_optimum(Chosen({"A": noise(random, SEEDS, 5)}, axis="delta"), "A", None)


def of_most_classes(random):
    """Each class of a seed gains or loses by chance, and classes of one seed go together."""
    gains = noise(random, 20, SEEDS) + noise(random, SEEDS, scale=0.5)
    yield from kinds.most_classes(Made({"A": gains, "B": np.zeros((20, SEEDS))}), "A", "B")


NULL = [value for name, value in globals().items() if name.startswith("of_")]


def rates(found):
    """The shares of (p, against) that are below the level."""
    return (np.array(found) < LEVEL).mean(0)


@pytest.mark.parametrize("tests_of", NULL, ids=lambda of: of.__name__)
def test_a_kind_finds_what_is_not_there_no_more_often_than_its_level_says(tests_of):
    """A part is found where all its tests are, and its opposite where one is, corrected for their number. Both together
    are no more frequent than the level says, but for equivalence, whose two statements are both false at the margin:
    TOST errs with the level, the two-sided test of the opposite with half of it."""
    random, found = np.random.default_rng(0), []
    for _ in range(NULLS):
        tests = [*tests_of(random)]
        found.append((max(test.p for test in tests), len(tests) * min(test.against for test in tests)))
    # At the very margin, equivalence errs with exactly its level: above it in half of all simulations.
    at_margin = tests_of is of_equivalent
    assert (rates(found) <= LEVEL + ERROR * at_margin).all(), rates(found)
    assert rates(found).sum() <= LEVEL * (1.5 if at_margin else 1) + ERROR, rates(found)


@pytest.mark.parametrize("kind", list(kinds.KINDS))
def test_every_kind_has_its_null(kind):
    assert any(of.__name__.startswith(f"of_{kind}") for of in NULL)


def test_a_paper_whose_claims_are_all_wrong_has_one_verdict_no_more_often_than_the_level_says():
    random = np.random.default_rng(0)
    claim = Judged("a paper", "", "text", "source", "space", "claims")
    found = []
    for _ in range(NULLS):
        tests = [test for _ in range(8) for test in of_greater(random)]
        paper = [replace(claim, number=str(n), tests=tuple(tests[2 * n : 2 * n + 2])) for n in range(4)]
        reached = {one.verdict for one in verdicts(paper)}
        found.append([verdict in reached for verdict in (REPRODUCED, CONTRADICTED)])
    assert (np.mean(found, axis=0) <= LEVEL).all(), np.mean(found, axis=0)
    assert np.mean(np.any(found, axis=1)) <= LEVEL + ERROR
