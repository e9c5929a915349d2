"""HST: a step against plain numpy, margins that move and margins that do not, prototypes, what is shared with SST."""

import itertools

import numpy as np
import pytest
import torch

from methods import data
from methods.components.decoupling import Decoupling
from methods.components.transfer import LearnedPairs, PairLoss
from methods.contract.head import FeatureMap
from methods.contract.objective import MODIFIED, Batch
from methods.hst import HST, HSTObjective, HSTSettings, LearnedMargin, Prototypes, Transfer, prototype_loss, soft_scores
from methods.training.config import resolve
from tests.methods import tiny

CLASSES, WIDTH, PER_CLASS = 20, 6, 3
DECOUPLING = Decoupling(4, None, 2)


@pytest.fixture(scope="module")
def task():
    return data.load(config().data)


def config(method="hst", **values):
    return resolve(tiny.tiny(method) | values)


def objectives(**values):
    """HST with the release's settings, in epochs 1 to 20."""
    return [HST(HSTSettings(**values)).objective(epoch) for epoch in range(1, 21)]


def random(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def fresh_state():
    counts = {f"counted/{name}": torch.tensor(0) for name in ("images", "intra", "inter")}
    prototypes = random(CLASSES, PER_CLASS, WIDTH, seed=5)
    prototypes[:4] = 0  # classes without any known positive
    return {"prototypes": prototypes, **counts}


def a_step(task, objective, state):
    """The loss and what was noted of a step in double precision, the batch, and the modules."""
    torch.manual_seed(4)
    modules = {name: make().double() for name, make in objective.modules(FeatureMap(WIDTH, "mean"), task).items()}
    choices = np.array([-1, 0, 1], np.int8)
    labels = torch.from_numpy(np.random.default_rng(4).choice(choices, (8, CLASSES), p=[0.4, 0.5, 0.1]))
    noted = {}

    def watch(name, rows, entries):
        noted[name] = entries

    batch = Batch(random(8, WIDTH, 3, 3, seed=4), labels, torch.arange(8), watch=watch)
    return objective.loss(batch, modules, state), noted, batch, modules


def bce(logits, targets):
    known = targets != 0
    return np.logaddexp(0, np.where(targets > 0, -logits, logits))[known].mean()


def cosine(one, other):
    norms = np.linalg.norm(one) * np.linalg.norm(other)
    return one @ other / norms if norms else 0.0


FULL = HSTObjective(
    DECOUPLING,
    None,
    LearnedPairs(5),
    None,
    Transfer(0.5, 0.7, rate_multiplier=1.0, soft_weight=0.3),
    "mean",
    Transfer(0.1, 0.4, rate_multiplier=2.0, soft_weight=0.3),
    Prototypes(PER_CLASS, True, 0.25),
)


@pytest.mark.parametrize("released", [None, True])
def test_a_step_is_what_numpy_makes_of_the_networks_outputs(task, released):
    objective = HSTObjective(**{**vars(FULL), "prototypes": Prototypes(PER_CLASS, True, 0.25, released)})
    state = fresh_state()
    loss, noted, batch, modules = a_step(task, objective, state)
    labels, prototypes = batch.labels.numpy(), state["prototypes"].numpy()
    with torch.no_grad():
        own = objective.decoupling.class_features(batch.features, modules).numpy()
        completion = objective.completion(batch.features, batch.labels, modules, state)
        together = completion.cooccurrence.numpy()
        logits = objective.logits(batch.features, modules).numpy()
    within, across = np.zeros(labels.shape), np.zeros(labels.shape)
    for n, k in itertools.product(range(8), range(CLASSES)):
        positives = np.flatnonzero(labels[n] == 1)
        within[n, k] = together[n, k, positives].mean() if len(positives) else 0
        across[n, k] = np.mean([cosine(own[n, k], prototype) for prototype in prototypes[k]])
    expected, completed = bce(logits, labels), []
    for scores, margin, weight in ((within, 0.5, 0.7), (across, 0.1, 0.4)):
        soft = np.clip(scores - margin, 0, 1)
        completed.append(np.where((labels == 0) & (soft > 0), 1, labels))
        assert 0 < (completed[-1] != labels).sum() < (labels == 0).sum(), "the case has no power"
        assert (soft[labels != 0] > 0).any()
        expected += weight * bce(logits, completed[-1]) + 0.3 * bce(soft, labels)
    expected += 0.25 * np.mean(1 + across * labels if released else 1 - across * labels)
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_array_equal(noted[MODIFIED], (completed[0] != labels) | (completed[1] != labels))
    for name, scores, labels_so in zip(("intra", "inter"), (within, across), completed, strict=True):
        np.testing.assert_allclose(completion.rules[name].scores, scores, rtol=1e-9)
        np.testing.assert_array_equal(completion.rules[name].labels, labels_so)
    assert completion.rules["inter"].threshold == pytest.approx(0.1, rel=1e-6)
    with torch.no_grad():
        reported = objective.report(modules, state)
    assert reported == pytest.approx(
        {
            "margin_intra": 0.5,
            "margin_inter": 0.1,
            "pseudo_intra": (completed[0] != labels).sum() / 8,
            "pseudo_inter": (completed[1] != labels).sum() / 8,
        },
        rel=1e-6,  # margins start in single precision
    )


def test_a_margin_falls_where_known_positives_are_above_it_and_rises_where_known_negatives_are():
    margin = LearnedMargin(0.5)
    for label, direction in ((1, 1), (-1, -1)):
        margin.value.grad = None
        soft = soft_scores(torch.tensor([[0.8, 0.2]]), margin())
        sign = 1 - 2 * (label > 0)
        (torch.nn.functional.softplus(sign * soft[0, 0]) + soft[0, 1]).backward()
        assert np.sign(margin.value.grad.item()) == direction


def test_only_known_labels_above_the_margin_move_it(task):
    loss, _, _, modules = a_step(task, FULL, fresh_state())
    loss.backward()
    assert modules["margin_intra"].value.grad != 0
    high = HSTObjective(**{**vars(FULL), "intra": Transfer(1.0, 0.7, 1.0, 0.3)})
    loss, _, _, modules = a_step(task, high, fresh_state())
    loss.backward()
    assert modules["margin_intra"].value.grad == 0


def test_gradients_reach_the_pair_head_through_the_soft_scores(task):
    loss, _, _, modules = a_step(task, FULL, fresh_state())
    loss.backward()
    assert any(parameter.grad.abs().sum() > 0 for parameter in modules["pairs"].parameters())


def test_the_corrected_prototype_loss_draws_known_positives_near_and_the_released_one_drives_them_away():
    similarities = torch.tensor([[0.5, 0.5, 0.5]], requires_grad=True)
    labels = torch.tensor([[1, -1, 0]], dtype=torch.int8)
    prototype_loss(similarities, labels).backward()
    assert similarities.grad.sign().tolist() == [[-1, 1, 0]]
    similarities.grad = None
    prototype_loss(similarities, labels, released=True).backward()
    assert similarities.grad.sign().tolist() == [[1, -1, 0]]


# What acts, and what is shared


def test_before_the_first_pseudo_labels_it_is_sst_that_compares_with_all_positives():
    sst = config("sst", inter_score="all_positives", start_epoch=4)
    hst = config(start_epoch=4)
    assert [hst.recipe(epoch) for epoch in (1, 2, 3)] == [sst.recipe(epoch) for epoch in (1, 2, 3)]
    assert hst.keys()[:4] == sst.keys()[:4]
    assert hst.keys()[4] != sst.keys()[4]


def test_with_both_transfers_off_it_is_ssgrl():
    assert config(ist=False, cst=False).keys() == config("ssgrl").keys()


def test_without_pseudo_labels_and_prototypes_it_is_what_known_labels_teach():
    taught = objectives(intra_weight=0, inter_weight=0, prototype_weight=0)
    assert set(taught[5:]) == {objectives()[4]}


def test_the_release_makes_prototypes_before_epochs_6_11_and_16():
    made = [epoch for epoch, o in enumerate(objectives(), 1) if isinstance(o, HSTObjective) and o.prototypes.anew]
    assert made == [6, 11, 16]


def test_prototypes_are_there_for_the_score_or_the_loss_and_for_nothing_else():
    assert objectives(inter_weight=0)[5].prototypes == Prototypes(10, True, 0.05)
    assert objectives(prototype_weight=0, prototype_sign="released")[5].prototypes == Prototypes(10, True)
    assert objectives(inter_weight=0, prototype_weight=0)[5].prototypes is None
    assert objectives(cst=False)[5].prototypes is None


def test_a_margin_that_nothing_moves_is_a_fixed_one():
    assert objectives(soft_weight=0) == objectives(soft_weight=0, margin="fixed")
    assert objectives() != objectives(margin="fixed")


def test_l_ist_does_without_pseudo_labels_within_images():
    objective = objectives(intra_weight=0)[5]
    assert (objective.intra, objective.pooling) == (None, None)
    assert (objective.pairs, objective.pair_loss) == (LearnedPairs(32), PairLoss(10.0))


# Training


def test_training_completes_labels_and_moves_the_margins_from_the_start_epoch_on():
    trained = tiny.run(config())
    first, *later = trained.metrics
    assert not [name for name in first if "margin" in name or "pseudo" in name]
    for name, start in (("intra", 0.4), ("inter", 0.95)):
        margins = [epoch[f"train/margin_{name}"] for epoch in later]
        assert len({start, *margins}) == 4
        assert max(epoch[f"train/pseudo_{name}"] for epoch in later) > 0
    assert not [name for name in trained.states[1] if "margin" in name or "prototypes" in name]


def test_fixed_margins_stay_and_are_no_part_of_the_state():
    trained = tiny.run(config(margin="fixed"))
    assert {epoch["train/margin_intra"] for epoch in trained.metrics[1:]} == {0.4}
    assert not [name for name in trained.states[-1] if "margin" in name]


def test_prototypes_stay_between_the_epochs_that_make_them():
    states = tiny.run(config()).states
    second, third, fourth = (states[epoch]["method/prototypes"] for epoch in (2, 3, 4))
    assert torch.equal(second, third)
    assert not torch.equal(third, fourth)


def test_the_margins_learn_at_a_rate_of_their_own():
    assert dict(config(margin_multiplier=10.0).recipe(2).learning_rates_own) == {
        f"margin_{name}": pytest.approx(10 * config().train.learning_rate) for name in ("intra", "inter")
    }
