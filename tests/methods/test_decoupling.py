"""The semantic-decoupling family without what its methods add: class features, graph, head, known labels. And SSGRL."""

import numpy as np
import pytest
import torch

from methods import data
from methods.components.contrastive import Contrastive, contrastive_loss
from methods.components.decoupling import DecoupledObjective, Decoupling, DecouplingSettings, Narrowed
from methods.contract.head import FeatureMap
from methods.contract.objective import Batch
from methods.networks.gated_graph import GatedGraph
from methods.networks.semantic_decoupling import SemanticAttention, SemanticDecoupling
from methods.ssgrl import SSGRL
from methods.training.config import resolve
from tests.methods import tiny

WIDTH = 6


@pytest.fixture(scope="module")
def task():
    return data.load(config().data)


def config(**values):
    return resolve(tiny.tiny("ssgrl") | values)


def modules_of(objective, task):
    torch.manual_seed(0)
    return {name: make().double() for name, make in objective.modules(FeatureMap(WIDTH, "mean"), task).items()}


def feature_maps(images=5, width=WIDTH):
    return torch.tensor(np.random.default_rng(0).normal(size=(images, width, 3, 4)))


def test_settings_name_the_parts_that_act_and_leave_out_those_that_do_not():
    def decoupled(**values):
        return DecouplingSettings(**{"attention_width": 16, "feature_width": 0, "graph_steps": 2} | values)

    assert decoupled().decoupled() == Decoupling(16, None, 2)
    assert decoupled(feature_width=8, graph_steps=0).decoupled() == Decoupling(16, 8, None)
    by_masks = decoupled(decoupling="semantic_attention")
    assert by_masks.decoupled() == Decoupling(None, None, 2)
    assert "attention_width" not in by_masks.acting()


@pytest.mark.parametrize(
    ("decoupling", "names"),
    [
        (Decoupling(4, None, 3), {"decoupling", "graph", "head"}),
        (Decoupling(None, None, 3), {"decoupling", "graph", "head"}),
        (Decoupling(4, 8, 3), {"decoupling", "graph", "head", "narrowed"}),
        (Decoupling(4, None, None), {"decoupling", "head"}),
    ],
)
def test_only_modules_that_act_are_made_and_all_of_them_learn(task, decoupling, names):
    objective = DecoupledObjective(decoupling)
    modules = modules_of(objective, task)
    assert modules.keys() == names
    kind = SemanticDecoupling if decoupling.attention_width else SemanticAttention
    assert isinstance(modules["decoupling"], kind)
    batch = Batch(feature_maps(), torch.from_numpy(task.observed)[:5], torch.arange(5))
    objective.loss(batch, modules, {}).backward()
    silent = [f"{n}.{p}" for n, m in modules.items() for p, value in m.named_parameters() if value.grad is None]
    assert not silent


def test_the_graph_is_of_the_known_labels_of_the_training_split(task):
    graph = modules_of(DecoupledObjective(Decoupling(4, None, 1)), task)["graph"]
    positive = (task.observed > 0).astype(float)
    together = positive.T @ positive
    adjacency = torch.tensor(together / np.maximum(together.diagonal(), 1)[:, None])
    expected = GatedGraph(WIDTH, adjacency, 1).double()
    expected.load_state_dict(graph.state_dict())
    features = torch.tensor(np.random.default_rng(1).normal(size=(2, task.num_classes, WIDTH)))
    np.testing.assert_allclose(graph(features).detach(), expected(features).detach(), rtol=1e-5)


def test_class_features_come_from_the_narrowed_map_where_there_is_one(task):
    objective = DecoupledObjective(Decoupling(4, 8, 2))
    modules = modules_of(objective, task)
    assert isinstance(modules["narrowed"], Narrowed)
    maps = feature_maps()
    assert objective.decoupling.class_features(maps, modules).shape == (5, task.num_classes, 8)
    assert objective.attention(maps, modules).shape == (5, task.num_classes, 3, 4)
    assert objective.logits(maps, modules).shape == (5, task.num_classes)


def test_without_messages_the_head_gets_the_class_feature_twice(task):
    objective = DecoupledObjective(Decoupling(4, None, None))
    modules = modules_of(objective, task)
    own = objective.decoupling.class_features(feature_maps(), modules)
    assert torch.equal(objective.logits(feature_maps(), modules), modules["head"](own, own))


def test_attention_is_what_class_features_are_weighted_by(task):
    objective = DecoupledObjective(Decoupling(4, None, 2))
    modules = modules_of(objective, task)
    maps = feature_maps()
    attention = objective.attention(maps, modules).detach()
    np.testing.assert_allclose(attention.sum((2, 3)), 1, rtol=1e-12)
    expected = np.einsum("bkhw,bdhw->bkd", attention, maps)
    np.testing.assert_allclose(objective.decoupling.class_features(maps, modules).detach(), expected, rtol=1e-9)


def test_the_loss_is_partial_bce_and_the_contrastive_loss_of_class_features(task):
    alone, both = (DecoupledObjective(Decoupling(4, None, 2), c) for c in (None, Contrastive(0.2, every_pair=True)))
    modules = modules_of(alone, task)
    labels = torch.from_numpy(task.observed)[:5]
    batch = Batch(feature_maps(), labels, torch.arange(5))
    logits = alone.logits(batch.features, modules).detach().numpy()
    known = labels.numpy() != 0
    expected = np.logaddexp(0, np.where(labels.numpy() > 0, -logits, logits))[known].mean()
    assert alone.loss(batch, modules, {}).item() == pytest.approx(expected, rel=1e-9)
    own = alone.decoupling.class_features(batch.features, modules)
    expected += 0.2 * contrastive_loss(own, labels).item()
    assert both.loss(batch, modules, {}).item() == pytest.approx(expected, rel=1e-9)


def test_ssgrl_is_the_same_in_every_epoch_and_learns():
    settings = DecouplingSettings()
    objectives = {SSGRL(settings).objective(epoch) for epoch in range(1, 21)}
    assert objectives == {DecoupledObjective(settings.decoupled())}
    losses = [epoch["train/loss"] for epoch in tiny.run(config()).metrics]
    assert losses == sorted(losses, reverse=True)
