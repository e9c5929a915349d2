"""Networks of the semantic-decoupling family against the released codes' numbers: outputs and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.components.cooccurrence import conditional_probabilities, counts
from methods.networks.class_head import ClassHead
from methods.networks.gated_graph import GatedGraph
from methods.networks.graph_classifier import GraphClassifier, correlation
from methods.networks.pair_head import PairHead, pairs
from methods.networks.semantic_decoupling import SemanticAttention, SemanticDecoupling
from tests.golden_cases import cases, load
from tests.methods.golden_weights import GCN, GRAPH, HEAD, PAIRS, SAM, given, released


def close(actual, expected):
    np.testing.assert_allclose(actual.detach(), expected, rtol=1e-9, atol=1e-10)


def tensor(array):
    return torch.tensor(array, requires_grad=True)


def decoupling(case, prefix="weight_"):
    width, attention_width = case.in_feature_map.shape[1], len(getattr(case, f"{prefix}fc1_weight"))
    return given(SemanticDecoupling(width, torch.tensor(case.in_word_vectors), attention_width), case, {}, prefix)


@pytest.mark.parametrize("path", cases("net_semantic_decoupling"))
def test_semantic_decoupling_is_golden(path):
    case = load(path)
    network, features = decoupling(case), tensor(case.in_feature_map)
    result = network(features)
    close(result, case.out_features)
    close(network.attention(features), case.out_attention)
    (result * torch.tensor(case.in_cotangent_features)).sum().backward()
    close(features.grad, case.out_grad_feature_map)
    for name, parameter in network.named_parameters():
        close(parameter.grad, getattr(case, f"out_grad_weight_{released(name, {})}"))


@pytest.mark.parametrize("path", cases("net_sam"))
def test_semantic_attention_is_golden(path):
    case = load(path)
    width, classes = case.in_feature_map.shape[1], len(case.weight_fc_weight)
    network = given(SemanticAttention(width, classes, len(case.weight_conv_transform_bias)), case, SAM)
    features = tensor(case.in_feature_map)
    result = network(features)
    close(result, case.out_class_features)
    close(network.attention(features), case.out_mask)
    close(network.max_logits(features), case.out_max_logits)
    (result * torch.tensor(case.in_cotangent)).sum().backward()
    close(features.grad, case.out_grad_feature_map)


@pytest.mark.parametrize("path", cases("net_gated_graph"))
def test_the_gated_graph_is_golden(path):
    case = load(path)
    width, adjacency = case.in_features.shape[2], torch.tensor(case.in_adjacency)
    network, features = (
        given(GatedGraph(width, adjacency, case.param_time_steps), case, GRAPH),
        tensor(case.in_features),
    )
    result = network(features)
    close(result, case.out_features)
    (result * torch.tensor(case.in_cotangent)).sum().backward()
    close(features.grad, case.out_grad_features)


@pytest.mark.parametrize("path", cases("net_head"))
def test_the_class_head_is_golden(path):
    case = load(path)
    _, classes, width = case.in_graph_features.shape
    network = given(ClassHead(width, classes), case, HEAD)
    graph_features, semantic_features = tensor(case.in_graph_features), tensor(case.in_semantic_features)
    logits = network(graph_features, semantic_features)
    close(logits, case.out_logits)
    (logits * torch.tensor(case.in_cotangent)).sum().backward()
    close(graph_features.grad, case.out_grad_graph_features)
    close(semantic_features.grad, case.out_grad_semantic_features)


@pytest.mark.parametrize("path", cases("net_ist"))
def test_the_pair_head_is_golden(path):
    case = load(path)
    _, classes, width = case.in_features.shape
    network = given(PairHead(width, len(case.weight_intra_fc_1_bias), classes), case, PAIRS)
    features = tensor(case.in_features)
    logits = network(features)
    close(logits, case.out_pair_logits)
    np.testing.assert_array_equal(pairs(classes), case.out_pair_index)
    (logits * torch.tensor(case.in_cotangent)).sum().backward()
    close(features.grad, case.out_grad_features)


@pytest.mark.parametrize("path", cases("net_sst"))
def test_the_networks_of_sst_one_after_the_other_are_golden(path):
    case = load(path)
    classes, width = len(case.in_word_vectors), case.in_feature_map.shape[1]
    adjacency = torch.tensor(case.in_adjacency)
    decouple = decoupling(case, "weight_SemanticDecoupling_")
    graph = GatedGraph(width, adjacency, case.param_time_steps)
    graph = given(graph, case, GRAPH, "weight_GraphNeuralNetwork_")
    head = given(ClassHead(width, classes), case, HEAD)
    pair_head = given(PairHead(width, len(case.weight_intra_fc_1_bias), classes), case, PAIRS)
    feature_map = tensor(case.in_feature_map)
    semantic_features = decouple(feature_map)
    graph_features = graph(semantic_features)
    logits, pair_logits = head(graph_features, semantic_features), pair_head(semantic_features)
    close(semantic_features, case.out_semantic_features)
    close(graph_features, case.out_graph_features)
    close(logits, case.out_logits)
    close(pair_logits, case.out_pair_logits)
    scalar = (logits * torch.tensor(case.in_cotangent_logits)).sum()
    (scalar + (pair_logits * torch.tensor(case.in_cotangent_pair_logits)).sum()).backward()
    close(feature_map.grad, case.out_grad_feature_map)


@pytest.mark.parametrize("path", cases("net_mlgcn"))
def test_the_graph_classifier_is_golden(path):
    case = load(path)
    adjacency, normalised = correlation(
        torch.tensor(case.in_pair_counts), torch.tensor(case.in_class_counts), case.param_threshold
    )
    close(adjacency, case.out_A)
    close(normalised, case.out_A_normalised)
    hidden, width = case.weight_gc2_weight.shape
    network = given(GraphClassifier(width, torch.tensor(case.in_word_vectors), normalised, hidden), case, GCN)
    feature_map = tensor(case.in_feature_map)
    logits = network(feature_map)
    close(logits, case.out_logits)
    (logits * torch.tensor(case.in_cotangent)).sum().backward()
    close(network.gc1.grad, case.out_grad_weight_gc1_weight)
    close(network.gc2.grad, case.out_grad_weight_gc2_weight)
    # The pooled value's gradient arrives at the one position of the maximum.
    close(feature_map.grad.sum((2, 3)), case.out_grad_pooled)


@pytest.mark.parametrize("path", cases("sst_adjacency"))
def test_conditional_probabilities_are_golden(path):
    case = load(path)
    pair_counts, class_counts = counts(case.in_labels)
    np.testing.assert_array_equal(pair_counts, case.out_counts)
    np.testing.assert_array_equal(class_counts == 0, case.out_empty_class)
    close(conditional_probabilities(case.in_labels, torch.float64), case.out_adjacency)
