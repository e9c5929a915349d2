"""Networks of the semantic-decoupling family against their formulas entry by entry: outputs and all gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from methods.networks.class_head import ClassHead
from methods.networks.gated_graph import GatedGraph
from methods.networks.graph_classifier import GraphClassifier, correlation
from methods.networks.pair_head import PairHead, pairs
from methods.networks.semantic_decoupling import SemanticAttention, SemanticDecoupling

property_test = settings(derandomize=True, deadline=None, max_examples=12)
sizes = st.integers(1, 3)
seeds = st.integers(0, 2**31)


def drawn(seed, *shape):
    """Standard normal values in double precision, that gradients can be taken of."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def redrawn(network, seed):
    """`network` in double precision with standard normal weights, whatever it started from."""
    network.double()
    for n, parameter in enumerate(network.parameters()):
        parameter.data = drawn(seed + n, *parameter.shape).detach()
    return network


def stacked(values, *shape):
    """Scalar tensors, the last index fastest, as one tensor."""
    return torch.stack(list(values)).reshape(shape)


def same(network: nn.Module, inputs, result, expected):
    """Equal outputs, and equal gradients of all inputs and parameters under one random weighting of the outputs."""
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)
    weighting = drawn(1, *result.shape).detach()
    variables = [*inputs, *network.parameters()]
    found = torch.autograd.grad((result * weighting).sum(), variables, allow_unused=True)
    wanted = torch.autograd.grad((expected * weighting).sum(), variables, allow_unused=True)
    for mine, theirs, variable in zip(found, wanted, variables, strict=True):
        zero = torch.zeros_like(variable)
        torch.testing.assert_close(
            zero if mine is None else mine, zero if theirs is None else theirs, rtol=1e-9, atol=1e-9
        )


def linear(layer, x):
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)


@property_test
@given(sizes, sizes, sizes, sizes, sizes, sizes, sizes, seeds)
def test_semantic_decoupling_is_its_formula_position_by_position(images, classes, d, height, width, w, m, seed):
    words = drawn(seed, classes, w).detach()
    network = redrawn(SemanticDecoupling(d, words, m), seed + 1)
    features = drawn(seed + 100, images, d, height, width)
    values, weights = [], []
    for image, word in itertools.product(features, words):
        positions = image.flatten(1).T
        hidden = [torch.tanh(linear(network.fc1, x) * linear(network.fc2, word)) for x in positions]
        scores = torch.stack([linear(network.fc4, linear(network.fc3, h))[0] for h in hidden])
        attention = scores.exp() / scores.exp().sum()
        weights += attention
        values += sum(a * x for a, x in zip(attention, positions, strict=True))
    same(network, [features], network(features), stacked(values, images, classes, d))
    torch.testing.assert_close(network.attention(features), stacked(weights, images, classes, height, width))


def test_the_biases_before_the_softmax_have_a_gradient_and_it_is_zero():
    network = SemanticDecoupling(4, torch.randn(3, 5), 6)
    network(torch.randn(2, 4, 2, 2)).square().sum().backward()
    for bias in (network.fc3.bias, network.fc4.bias):
        assert torch.equal(bias.grad, torch.zeros_like(bias))
    assert network.fc3.weight.grad.abs().max() > 0


def test_decoupling_in_several_blocks_is_decoupling_of_each_image():
    # 2^19 values are a block: 26 positions of 40 classes and 512 channels, of 36 in each image.
    network = redrawn(SemanticDecoupling(3, drawn(0, 40, 5).detach(), 512), 1)
    features = drawn(2, 2, 3, 6, 6)
    result = network(features)
    same(network, [features], result, torch.cat([network(image[None]) for image in features]))
    assert not torch.allclose(result[0], result[1])


@property_test
@given(sizes, sizes, sizes, sizes, sizes, sizes, seeds)
def test_semantic_attention_sums_masked_positions(images, classes, d, height, width, out, seed):
    network = redrawn(SemanticAttention(d, classes, out), seed)
    features = drawn(seed + 100, images, d, height, width)
    values, largest = [], []
    for image, row in itertools.product(features, network.fc.weight):
        positions = image.flatten(1).T
        values += sum(torch.sigmoid(row @ x) * linear(network.transform, x) for x in positions)
        largest.append(max(row @ x for x in positions))
    same(network, [features], network(features), stacked(values, images, classes, out))
    torch.testing.assert_close(network.max_logits(features), stacked(largest, images, classes))


@property_test
@given(sizes, sizes, sizes, st.integers(0, 3), seeds)
def test_the_gated_graph_is_its_formula_node_by_node(images, classes, d, steps, seed):
    adjacency = drawn(seed, classes, classes).detach()
    network = redrawn(GatedGraph(d, adjacency, steps), seed + 1)
    features = drawn(seed + 100, images, classes, d)
    values = []
    for image in features:
        nodes = list(image)
        for _ in range(steps):
            after = []
            for k, h in enumerate(nodes):
                to = sum(adjacency[k, j] * other for j, other in enumerate(nodes))
                back = sum(adjacency[j, k] * other for j, other in enumerate(nodes))
                m = torch.cat([to, back])
                z = torch.sigmoid(linear(network.update_w, m) + linear(network.update_u, h))
                r = torch.sigmoid(linear(network.reset_w, m) + linear(network.reset_u, h))
                c = torch.tanh(linear(network.candidate_w, m) + linear(network.candidate_u, r * h))
                after.append((1 - z) * h + z * c)
            nodes = after
        values += torch.cat(nodes)
    same(network, [features], network(features), stacked(values, images, classes, d))


@property_test
@given(sizes, sizes, sizes, seeds)
def test_the_class_head_is_its_formula_class_by_class(images, classes, d, seed):
    network = redrawn(ClassHead(d, classes), seed)
    graph_features, semantic_features = drawn(seed + 100, images, classes, d), drawn(seed + 200, images, classes, d)
    values = [
        network.weight[k] @ torch.tanh(linear(network.fc, torch.cat([graph_features[b, k], semantic_features[b, k]])))
        + network.bias[k]
        for b, k in itertools.product(range(images), range(classes))
    ]
    result = network(graph_features, semantic_features)
    same(network, [graph_features, semantic_features], result, stacked(values, images, classes))


@property_test
@given(sizes, st.integers(2, 5), sizes, sizes, st.booleans(), seeds)
def test_the_pair_head_is_its_formula_pair_by_pair(images, classes, d, m, per_pair, seed):
    network = redrawn(PairHead(d, m, classes, per_pair), seed)
    features = drawn(seed + 100, images, classes, d)
    values = []
    for image in features:
        for pair, (i, j) in enumerate(itertools.combinations(range(classes), 2)):
            first, second = linear(network.fc1, image[i]), linear(network.fc1, image[j])
            if not per_pair:
                first, second = first.relu(), second.relu()
            last = linear(network.fc3, linear(network.fc2, torch.cat([first, second])).relu())
            values.append(network.weight[pair] @ last + network.bias[pair] if per_pair else last[0])
    same(network, [features], network(features), stacked(values, images, classes * (classes - 1) // 2))


@pytest.mark.parametrize("classes", [1, 2, 20, 80])
def test_pairs_are_in_the_order_of_combinations(classes):
    assert [tuple(pair) for pair in pairs(classes).tolist()] == list(itertools.combinations(range(classes), 2))


@pytest.mark.parametrize("per_pair", [True, False])
def test_one_class_has_no_pair(per_pair):
    logits = PairHead(4, 3, 1, per_pair)(torch.randn(2, 1, 4, requires_grad=True))
    assert logits.shape == (2, 0)
    logits.sum().backward()


def test_the_texts_pair_head_scores_every_pair_by_the_same_layer():
    release, text = PairHead(8, 4, 6), PairHead(8, 4, 6, per_pair=False)
    shapes = {name: tuple(parameter.shape) for name, parameter in text.named_parameters()}
    assert shapes["fc3.weight"] == (1, 8)
    assert shapes.keys() == {name for name, _ in release.named_parameters() if "." in name}
    one_feature = torch.randn(1, 1, 8).expand(1, 6, 8)
    torch.testing.assert_close(text(one_feature), text(one_feature)[:, :1].expand(1, 15))
    assert release(one_feature).std() > 0


def test_nothing_is_kept_per_image_position_class_and_channel_nor_per_image_pair_and_channel():
    images, classes, d = 8, 30, 32
    decoupling, pair_head = SemanticDecoupling(d, torch.randn(classes, 5), d), PairHead(d, d // 2, classes)
    kept = []

    def note(tensor):
        kept.append(tensor.untyped_storage().nbytes() // tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        pair_head(decoupling(torch.randn(images, d, 4, 4)))
    # The rows of the pairs are the largest thing: 435 x 32.
    assert max(kept) == classes * (classes - 1) // 2 * d < images * 16 * classes * d // 4


@pytest.mark.parametrize(
    "network",
    [
        SemanticDecoupling(4, torch.zeros(3, 5), 6),
        GatedGraph(4, torch.eye(3), 2),
        GraphClassifier(4, torch.zeros(3, 5), torch.eye(3), hidden=6),
    ],
    ids=lambda network: type(network).__name__,
)
def test_what_is_given_and_not_trained_is_no_part_of_the_state(network):
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}
    assert len(list(network.buffers())) > 0


@pytest.mark.parametrize("network", [ClassHead(25, 300), PairHead(25, 4, 40)], ids=["classes", "pairs"])
def test_rows_of_their_own_start_uniform_in_one_over_the_root_of_the_width(network):
    for rows in (network.weight, network.bias):
        assert 0.95 / 5 < rows.abs().max() <= 1 / 5
        assert abs(rows.mean()) < 0.02


def test_a_class_never_seen_correlates_with_itself_alone():
    pair_counts = torch.tensor([[4, 2, 0], [2, 2, 0], [0, 0, 0]])
    for threshold in (0.0, 0.4):
        adjacency, normalised = correlation(pair_counts, pair_counts.diagonal(), threshold)
        assert adjacency[2].tolist() == [0, 0, 1]
        assert normalised.isfinite().all()
        network = GraphClassifier(4, torch.randn(3, 5), normalised, hidden=6)
        assert network(torch.randn(2, 4, 3, 3)).isfinite().all()


def test_correlation_shares_out_a_quarter_of_each_column():
    # Given the first class the second follows in a half of the images, given the second the first does always.
    pair_counts = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    adjacency, normalised = correlation(pair_counts, torch.tensor([4.0, 2.0, 5.0]), threshold=0.5)
    expected = torch.tensor([[1, 0.25, 0], [0.25, 1, 0], [0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(adjacency, expected, atol=1e-6, rtol=0)
    scale = torch.diag(adjacency.sum(1) ** -0.5)
    torch.testing.assert_close(normalised, scale @ adjacency.T @ scale)
