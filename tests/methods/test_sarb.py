"""SARB: blending and its loss against golden numbers, what is blended when, what is learned, what is shared."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods import data, fit
from methods.components.blending import (
    BlendingObjective,
    InstanceBlending,
    LearnedShare,
    PrototypeBlending,
    Share,
    choose_unknown,
    instance_blend,
    prototype_blend,
)
from methods.components.decoupling import Decoupling
from methods.components.losses import known_bce
from methods.contract.head import FeatureMap
from methods.contract.objective import BLENDED, LOGITS
from methods.networks.class_head import ClassHead
from methods.networks.gated_graph import GatedGraph
from methods.networks.semantic_decoupling import SemanticDecoupling
from methods.sarb import ClusterPrototypes
from methods.training.config import resolve
from tests import golden_cases
from tests.methods import tiny
from tests.methods.golden_weights import GRAPH, HEAD
from tests.methods.golden_weights import given as given_weights

property_test = settings(derandomize=True, deadline=None, max_examples=80)
label_tables = arrays(np.int8, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.sampled_from([-1, 0, 0, 1]))


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-10)


def parameter(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def config(method="sarb", **own):
    return resolve(tiny.tiny(method, **own))


@pytest.mark.parametrize("path", golden_cases.cases("sarb_instance_blend"))
def test_golden_instance_blend(path):
    case = golden_cases.load(path)
    features, alpha = parameter(case.in_features), parameter(case.param_alpha)
    blended = instance_blend(features, torch.from_numpy(case.in_labels), alpha)
    assert np.array_equal(blended.entries.numpy(), case.out_blend_mask)
    check_blend(blended, features, alpha, case, case.out_grad_alpha, "out")


@pytest.mark.parametrize("reading", ["left_alone", "class_zero"])
@pytest.mark.parametrize("path", golden_cases.cases("sarb_prototype_blend"))
def test_golden_prototype_blend(path, reading):
    case = golden_cases.load(path)
    labels = torch.from_numpy(case.in_labels)
    has_unknown = torch.from_numpy(case.in_chosen_class >= 0)
    chosen = torch.nn.functional.one_hot(torch.from_numpy(case.in_chosen_class).clamp(min=0), labels.shape[1]).bool()
    chosen &= has_unknown[:, None]
    drawn = choose_unknown(
        labels, torch.ones(labels.shape[1], dtype=torch.bool), generator(), class_zero=reading == "class_zero"
    )
    # The class drawn where there is an unknown one is the case's; what happens where there is none is ours.
    chosen = torch.where(has_unknown[:, None], chosen, drawn)
    prefix = "out" if reading == "left_alone" else "out_released"
    features, beta = parameter(case.in_features), parameter(case.param_beta)
    prototypes = torch.from_numpy(case.in_prototypes)[:, case.param_prototype_index]
    blended = prototype_blend(features, labels, prototypes, chosen, beta)
    assert np.array_equal(blended.entries.numpy(), getattr(case, f"{prefix}_blend_mask"))
    check_blend(blended, features, beta, case, getattr(case, f"{prefix}_grad_beta"), prefix)


def check_blend(blended, features, share, case, share_gradient, prefix):
    close(blended.features, getattr(case, f"{prefix}_features"))
    close(blended.targets, getattr(case, f"{prefix}_targets"))
    total = (blended.features * torch.from_numpy(case.in_cotangent_features)).sum()
    total = total + (blended.targets * torch.from_numpy(case.in_cotangent_targets)).sum()
    total.backward()
    close(features.grad, getattr(case, f"{prefix}_grad_features"))
    close(share.grad, share_gradient)


@pytest.mark.parametrize("path", golden_cases.cases("sarb_soft_loss"))
def test_golden_soft_loss(path):
    case = golden_cases.load(path)
    total = 0.0
    logits, targets = {}, {}
    for kind in ("", "_instance", "_prototype"):
        logits[kind] = parameter(getattr(case, f"in_logits{kind}"))
        targets[kind] = parameter(getattr(case, f"in_targets{kind}" if kind else "in_labels"))
        loss = known_bce(logits[kind], targets[kind])
        close(loss, getattr(case, f"out_loss{kind}"))
        total = total + loss
    close(total, case.out_loss_total)
    total.backward()
    for kind in logits:
        close(logits[kind].grad, getattr(case, f"out_grad_logits{kind}"))
        if kind:
            # Negative labels are never soft, so that their gradient is nobody's.
            soft = targets[kind].detach().numpy() > 0
            expected = getattr(case, f"out_grad_targets{kind}")
            close(targets[kind].grad[torch.from_numpy(soft)], expected[soft])


@pytest.mark.parametrize("path", golden_cases.cases("sarb_net"))
def test_golden_network_with_both_blends(path):
    case = golden_cases.load(path)
    modules = golden_network(case)
    decoupling = Decoupling(1, None, case.param_time_steps)
    objective = BlendingObjective(decoupling)
    features, alpha, beta = parameter(case.in_feature_map), parameter(case.param_alpha), parameter(case.param_beta)
    labels = torch.from_numpy(case.in_labels)
    own = decoupling.class_features(features, modules)
    close(own, case.out_semantic_features)
    chosen = torch.nn.functional.one_hot(torch.from_numpy(case.in_chosen_class), labels.shape[1]).bool()
    prototypes = torch.from_numpy(case.in_prototypes)[:, case.param_prototype_index]
    instance = instance_blend(own, labels, alpha)
    prototype = prototype_blend(own, labels, prototypes, chosen, beta)
    for blended, kind in ((instance, "instance"), (prototype, "prototype")):
        close(decoupling.class_logits(blended.features, modules), getattr(case, f"out_logits_{kind}"))
        close(blended.targets, getattr(case, f"out_targets_{kind}"))
    loss = objective.blended_loss(tiny.batch(features, labels), own, [(1.0, instance), (1.0, prototype)], modules)
    close(loss, case.out_loss_total)
    loss.backward()
    close(features.grad, case.out_grad_feature_map)
    close(alpha.grad, case.out_grad_alpha)
    close(beta.grad, case.out_grad_beta)


def golden_network(case):
    """The modules of SARB with the weights of a case."""
    width = case.in_feature_map.shape[1]
    words, adjacency = torch.from_numpy(case.in_word_vectors), torch.from_numpy(case.in_adjacency)
    attention = SemanticDecoupling(width, words, len(case.weight_SemanticDecoupling_fc1_weight))
    graph = GatedGraph(width, adjacency, case.param_time_steps)
    return {
        "decoupling": given_weights(attention, case, {}, "weight_SemanticDecoupling_"),
        "graph": given_weights(graph, case, GRAPH, "weight_GraphNeuralNetwork_"),
        "head": given_weights(ClassHead(width, len(words)), case, HEAD),
    }


@property_test
@given(label_tables, st.integers(0, 3))
def test_one_unknown_class_of_each_image_is_chosen_among_those_with_prototypes(labels, seed):
    labels = torch.from_numpy(labels)
    able = torch.arange(labels.shape[1]) != 1
    chosen = choose_unknown(labels, able, generator(seed))
    assert not chosen[(labels != 0) | ~able].any()
    assert torch.equal(chosen.sum(1), ((labels == 0) & able).any(1).long())


@property_test
@given(label_tables)
def test_all_unknown_classes_with_prototypes_can_be_chosen(labels):
    labels = torch.from_numpy(labels)
    able = torch.arange(labels.shape[1]) != 1
    assert torch.equal(choose_unknown(labels, able, generator(), every=True), (labels == 0) & able)


def test_the_chosen_class_is_drawn_evenly():
    labels = torch.tensor([[0, 1, 0, -1, 0]]).expand(3000, 5)
    counts = choose_unknown(labels, torch.ones(5, dtype=torch.bool), generator()).sum(0)
    assert counts[[1, 3]].tolist() == [0, 0]
    assert all(900 < count < 1100 for count in counts[[0, 2, 4]].tolist())


def test_the_release_overwrites_class_0_of_images_without_unknown_labels():
    labels = torch.tensor([[1, -1], [-1, 1], [1, 0]])
    able = torch.tensor([True, True])
    assert choose_unknown(labels, able, generator()).tolist() == [[False, False], [False, False], [False, True]]
    released = choose_unknown(labels, able, generator(), class_zero=True)
    assert released.tolist() == [[True, False], [True, False], [False, True]]
    assert not choose_unknown(labels, ~able, generator(), class_zero=True).any()


@pytest.fixture(scope="module")
def task():
    return data.load(config().data)


def step(objective, task, images=6, labels=None, watch=None, double=True):
    """A batch, modules and state for one step of an objective, of random features."""
    features = torch.randn(images, 8, 3, 3, generator=generator(5), dtype=torch.float64)
    labels = torch.from_numpy(task.observed[:images]) if labels is None else labels
    batch = dataclasses.replace(tiny.batch(features, labels), place=(1, 2, 3), watch=watch)
    torch.manual_seed(0)
    modules = {name: make().double() for name, make in objective.modules(FeatureMap(8, "mean"), task).items()}
    prototypes = torch.randn(task.num_classes, 3, 8, generator=generator(6), dtype=torch.float64)
    return batch, modules, {"prototypes": prototypes}


def objective(share=None, **level):
    share = share or Share(0.4)
    return BlendingObjective(
        Decoupling(4, None, 2),
        None,
        InstanceBlending(share, 0.5),
        PrototypeBlending(share, 2.0, ClusterPrototypes(3), **level),
    )


def test_a_step_is_what_three_separate_passes_give(task):
    blending = objective()
    batch, modules, state = step(blending, task)
    own = blending.decoupling.class_features(batch.features, modules)
    chosen = choose_unknown(
        batch.labels, torch.ones(task.num_classes, dtype=torch.bool), batch.generator("prototype/class")
    )
    number = int(torch.randint(3, (), generator=batch.generator("prototype/number")))
    sets = [
        (1.0, own, batch.labels),
        (0.5, *instance_blend(own, batch.labels, 0.4)[:2]),
        (2.0, *prototype_blend(own, batch.labels, state["prototypes"][:, number], chosen, 0.4)[:2]),
    ]
    expected = sum(w * known_bce(blending.decoupling.class_logits(f, modules), t) for w, f, t in sets)
    torch.testing.assert_close(blending.loss(batch, modules, state), expected)


def test_blended_entries_are_unknown_ones_and_they_are_noted(task):
    noted = {}
    blending = objective()
    batch, modules, state = step(blending, task, watch=lambda name, rows, entries: noted.update({name: entries}))
    blending.loss(batch, modules, state)
    assert list(noted) == [BLENDED, LOGITS]
    assert torch.equal(noted[LOGITS], blending.logits(batch.features, modules)), "of the images that are not blended"
    partner_has_it = batch.labels.flip(0) > 0
    assert noted[BLENDED].any() and not noted[BLENDED][batch.labels != 0].any()
    assert noted[BLENDED][(batch.labels == 0) & partner_has_it].all()
    assert ((noted[BLENDED] & ~partner_has_it).sum(1) <= 1).all()


def test_an_image_without_unknown_labels_is_left_alone(task):
    labels = torch.from_numpy(task.train.labels[:5])
    batch, modules, state = step(objective(), task, images=5, labels=labels)
    plain = known_bce(objective().logits(batch.features, modules), labels)
    torch.testing.assert_close(objective().loss(batch, modules, state), 3.5 * plain)
    assert not torch.isclose(objective(class_zero=True).loss(batch, modules, state), 3.5 * plain)


def test_a_class_without_prototypes_is_never_blended_with_one(task):
    labels = torch.zeros(4, task.num_classes, dtype=torch.int8)
    batch, modules, state = step(objective(), task, images=4, labels=labels)
    state["prototypes"][:] = 0
    noted = []
    objective(every=True).loss(dataclasses.replace(batch, watch=lambda *what: noted.append(what[2])), modules, state)
    assert not noted[0].any()


def test_where_a_share_is_1_nothing_is_complemented(task):
    batch, modules, state = step(objective(), task)
    plain = known_bce(objective().logits(batch.features, modules), batch.labels)
    torch.testing.assert_close(objective(Share(1.0)).loss(batch, modules, state), 3.5 * plain)


def test_a_learned_share_is_taken_back_to_between_0_and_1_and_still_learns():
    for start, inside in ((1.5, 1.0), (-0.5, 0.0), (0.25, 0.25)):
        share = LearnedShare(start)
        value = share()
        assert value.item() == share.value.item() == inside
        (3 * value).backward()
        assert share.value.grad.item() == 3


def test_learned_shares_move_are_reported_and_have_a_learning_rate_of_their_own():
    given = config(alpha_multiplier=10.0, beta_multiplier=1.0)
    assert given.recipe(2).learning_rates_own == (("alpha", 0.03), ("beta", 0.003))
    assert given.recipe(1).learning_rates_own is None
    trained = tiny.run(given)
    assert not any(name in trained.metrics[0] for name in ("train/alpha", "train/beta"))
    assert "module/alpha/value" not in trained.states[1]
    for name, rate in (("alpha", 0.03), ("beta", 0.003)):
        values = [0.5, *(trained.metrics[epoch - 1][f"train/{name}"] for epoch in (2, 3, 4))]
        assert values[1:] == [trained.states[e][f"module/{name}/value"].item() for e in (2, 3, 4)]
        # Three steps of Adam an epoch, each about the learning rate long.
        assert all(0 < abs(after - before) < 4 * rate for before, after in itertools.pairwise(values))


def test_fixed_shares_stay():
    trained = tiny.run(config(alpha="fixed", beta="fixed", beta_start=0.7))
    assert [(m["train/alpha"], m["train/beta"]) for m in trained.metrics[1:]] == [(0.5, 0.7)] * 3
    assert not [name for name in trained.states[-1] if "alpha" in name or "beta" in name]


def test_prototypes_are_made_when_blending_starts_and_every_so_many_epochs():
    trained = tiny.run(config(**{"train.epochs": 5}))  # from epoch 2, every 2
    found = [state.get("method/prototypes") for state in trained.states]
    assert found[1] is None and found[2].shape[:2] == (20, 4)
    assert torch.equal(found[2], found[3]) and torch.equal(found[4], found[5])
    assert not torch.equal(found[2], found[4])


def test_prototypes_are_centres_of_the_known_positives_features_before_the_epoch():
    given = config(prototypes=1)
    training = tiny.new_training(given)
    states = tiny.run(given).states
    objective = given.recipe(2).objective

    def look(features, modules):
        return objective.decoupling.class_features(features, modules)

    features = training.over_split("train", states[1], 1, look)
    known = torch.from_numpy(training.task.observed) > 0
    found = states[2]["method/prototypes"][:, 0]
    for k, has_it in enumerate(known.T):
        expected = features[has_it, k].mean(0) if has_it.any() else torch.zeros(features.shape[2])
        torch.testing.assert_close(found[k], expected)


def test_classes_with_few_known_positives_or_none_are_survived():
    few = config(**{"data.known": 0.02, "prototypes": 20, "blended_classes": "all"})
    state = tiny.run(few).states[-1]
    positives = (data.load(few.data).observed > 0).sum(0)
    assert positives.min() == 0 and 0 < positives.max() < 20
    made = state["method/prototypes"].any(2).any(1)
    assert made.tolist() == (positives > 0).tolist()


@pytest.mark.parametrize("off", [{"ilrb": False}, {"plrb": False}, {"alpha": "fixed"}, {"prototypes": 5}])
def test_variants_share_the_epochs_before_blending_starts_and_no_other(off):
    full, variant = config(start_epoch=3), config(start_epoch=3, **off)
    assert tiny.shared_epochs(full.keys(), variant.keys()) == 2


def test_with_both_levels_off_it_is_ssgrl_with_the_contrastive_loss():
    off = {"ilrb": False, "plrb": False}
    assert config(**off, contrastive_weight=0).keys() == config("ssgrl").keys()
    assert tiny.shared_epochs(config(**off).keys(), config().keys()) == 1


def test_semantic_attention_can_stand_in_for_semantic_decoupling(tmp_path):
    values = tiny.tiny("sarb", decoupling="semantic_attention")
    result = fit(values.pop("method"), values, cache_folder=tmp_path)
    assert {"train/alpha", "train/beta"} <= result.history[-1].keys()
