"""Time and memory of the networks behind the backbone in SSGRL, SST and SARB, compared with their literal formulas.

    python benchmarks/decoupling.py [--small] [--repeats 7] [--threads 2] [--clock cpu]

A step is forward and backward from a 7 x 7 map of the published width, 8 images, 80 classes, float32:

    SSGRL  semantic decoupling, gated graph, class head
    SST    the same, and the pair head on the class features
    SARB   semantic decoupling; gated graph and class head on the class features and on two blends of them

The literal forms are the papers' formulas on whole tensors: one value per image, position, class and channel in the
decoupling, and per image, pair and channel in the pair head. Both forms have the same parameters. The benchmark first
checks that outputs and all gradients are the same.

Time: the two forms alternate in one process; the ratio is that of the medians. After the methods, each network is
measured alone. `--clock cpu` measures processor time, for a machine that is busy with other work; best with one thread.

Memory: each form has its own process, which runs a small step first, so that libraries have their buffers. The result
is the rise of the peak of resident memory in one step at full size. It contains activations, tensors kept for the
backward pass and gradients of parameters, but not the parameters and the feature map.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from methods.networks.class_head import ClassHead
from methods.networks.gated_graph import GatedGraph
from methods.networks.pair_head import PairHead, pairs
from methods.networks.semantic_decoupling import SemanticDecoupling
from methods.training.config import resolve

METHODS = ("ssgrl", "sst", "sarb")
PARTS = ("decoupling", "graph", "head", "pairs")
FORMS = ("literal", "ours")


PUBLISHED = resolve({"method": "sst"}, published=True).settings


@dataclass(frozen=True)
class Sizes:
    images: int = 8
    classes: int = 80
    width: int = PUBLISHED.feature_width
    side: int = 7
    words: int = 300
    attention_width: int = PUBLISHED.attention_width
    pair_width: int = PUBLISHED.pair_width
    steps: int = PUBLISHED.graph_steps


FULL = Sizes()
SMALL = Sizes(images=4, classes=12, width=64, side=4, words=20, attention_width=32, pair_width=32)


def literal_decoupling(network: SemanticDecoupling, features: Tensor) -> Tensor:
    """With tensors (B, H W, K, M) and (B, H W, K, D)."""
    positions = features.flatten(2).transpose(1, 2)[:, :, None]
    hidden = torch.tanh(network.fc1(positions) * network.fc2(network.words))
    attention = network.fc4(network.fc3(hidden)).softmax(1)
    return (attention * positions).sum(1)


def literal_graph(network: GatedGraph, features: Tensor) -> Tensor:
    adjacency = network.both_ways[::2]
    for _ in range(network.steps):
        messages = torch.cat([adjacency @ features, adjacency.T @ features], 2)
        update = torch.sigmoid(network.update_w(messages) + network.update_u(features))
        reset = torch.sigmoid(network.reset_w(messages) + network.reset_u(features))
        candidate = torch.tanh(network.candidate_w(messages) + network.candidate_u(reset * features))
        features = (1 - update) * features + update * candidate
    return features


def literal_head(network: ClassHead, graph_features: Tensor, semantic_features: Tensor) -> Tensor:
    hidden = torch.tanh(network.fc(torch.cat([graph_features, semantic_features], 2)))
    return (hidden * network.weight).sum(2) + network.bias


def literal_pairs(network: PairHead, features: Tensor) -> Tensor:
    """With tensors (B, P, 2 M) and (B, P, D)."""
    first, second = pairs(features.shape[1]).T
    hidden = network.fc1(features)
    hidden = torch.relu(network.fc2(torch.cat([hidden[:, first], hidden[:, second]], 2)))
    return (network.fc3(hidden) * network.weight).sum(2) + network.bias


LITERAL: dict[type[nn.Module], Callable[..., Tensor]] = {
    SemanticDecoupling: literal_decoupling,
    GatedGraph: literal_graph,
    ClassHead: literal_head,
    PairHead: literal_pairs,
}


class Networks(nn.Module):
    """All networks behind the backbone, their inputs, and the gradients of their outputs, with random values."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        torch.manual_seed(0)
        images, classes, width = sizes.images, sizes.classes, sizes.width
        self.decoupling = SemanticDecoupling(width, torch.randn(classes, sizes.words), sizes.attention_width)
        self.graph = GatedGraph(width, torch.rand(classes, classes) * 2 / classes, sizes.steps)
        self.head = ClassHead(width, classes)
        self.pairs = PairHead(width, sizes.pair_width, classes)
        self.map = nn.Parameter(torch.randn(images, width, sizes.side, sizes.side))
        self.register_buffer("class_features", torch.randn(images, classes, width))
        self.register_buffer("prototypes", torch.randn(classes, width))
        self.register_buffer("blended", torch.rand(2, images, classes, 1) < 1 / classes)
        self.register_buffer("given", torch.randn(images, 3 * classes))
        self.register_buffer("given_pairs", torch.randn(images, self.pairs.num_pairs))

    def outputs(self, what: str, form: str) -> list[tuple[Tensor, Tensor]]:
        """The outputs of a method or of one network, each with its gradient for the backward pass."""
        decoupling, graph, head, pair_head = self.decoupling, self.graph, self.head, self.pairs
        if form == "literal":
            decoupling = bound(LITERAL[type(decoupling)], decoupling)
            graph = bound(LITERAL[type(graph)], graph)
            head = bound(LITERAL[type(head)], head)
            pair_head = bound(LITERAL[type(pair_head)], pair_head)
        logits_given = self.given.split(self.given.shape[1] // 3, 1)
        if what in PARTS:
            features = self.class_features.requires_grad_()
            if what == "decoupling":
                return [(decoupling(self.map), self.class_features.detach())]
            if what == "graph":
                return [(graph(features), self.class_features.detach())]
            if what == "head":
                return [(head(features, features), logits_given[0])]
            return [(pair_head(features), self.given_pairs)]
        features = decoupling(self.map)
        sets = [features]
        if what == "sarb":
            sets.append(torch.where(self.blended[0], (features + features.flip(0)) / 2, features))
            sets.append(torch.where(self.blended[1], (features + self.prototypes) / 2, features))
        results = [(head(graph(features), features), given) for features, given in zip(sets, logits_given)]
        if what == "sst":
            results.append((pair_head(features), self.given_pairs))
        return results

    def found(self, what: str, form: str) -> dict[str, Tensor]:
        """Outputs and gradients by name, in double precision."""
        self.step(what, form)
        with torch.no_grad():
            found = {f"output {n}": output for n, (output, _) in enumerate(self.outputs(what, form))}
        # The biases of fc3 and fc4 have gradient zero; the literal form gives only rounding errors for them.
        found |= {
            name: parameter.grad.clone()
            for name, parameter in self.named_parameters()
            if parameter.grad is not None and name not in ("decoupling.fc3.bias", "decoupling.fc4.bias")
        }
        return {name: tensor.double() for name, tensor in found.items()}

    def step(self, what: str, form: str) -> None:
        """One forward and backward pass, with new gradients."""
        self.zero_grad()
        outputs, given = zip(*self.outputs(what, form), strict=True)
        torch.autograd.backward(outputs, given)


def bound(function: Callable[..., Tensor], network: nn.Module) -> Callable[..., Tensor]:
    return lambda *inputs: function(network, *inputs)


def check(sizes: Sizes) -> None:
    """Prints, for each method, the largest relative error of outputs and gradients: |actual - expected| / |expected|,
    with norms of whole tensors. The expected values are the literal form in double precision.

    Raises `AssertionError` if our error is above 1e-9 in double precision, or in single precision above both 1e-5 and
    twice the literal form's error: rounding decides whether a gradient passes a ReLU with input near 0.
    """
    for what in METHODS:
        expected: dict[str, Tensor] = {}
        errors = {}
        for dtype in (torch.float64, torch.float32):
            networks = Networks(sizes).to(dtype)
            for form in FORMS:
                found = networks.found(what, form)
                expected = expected or found
                assert found.keys() == expected.keys(), "a gradient that one form alone has"
                errors[dtype, form] = max(
                    ((found[name] - tensor).norm() / tensor.norm()).item() for name, tensor in expected.items()
                )
        ours, literal32, ours32 = (errors[key] for key in list(errors)[1:])
        print(
            f"{what:10}  error in double precision {ours:.0e}; in single precision {literal32:.0e} literal, "
            f"{ours32:.0e} ours"
        )
        assert ours <= 1e-9
        assert ours32 <= max(1e-5, 2 * literal32)


def seconds(networks: Networks, what: str, repeats: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds per step of each form. The forms alternate, after one step of each that is not counted."""
    taken: dict[str, list[float]] = {form: [] for form in FORMS}
    for repeat in range(repeats + 1):
        for form in FORMS:
            started = clock()
            networks.step(what, form)
            if repeat:
                taken[form].append(clock() - started)
    return taken


def peak() -> float:
    """The peak of resident memory of this process, in MB, from Linux. (`getrusage` in a child process starts at the
    peak of its parent.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def rise(what: str, form: str, sizes: Sizes) -> float:
    """MB by which the peak of memory rises in one step. Call it only once in a process."""
    Networks(SMALL).step(what, form)
    networks = Networks(sizes)
    before = peak()
    networks.step(what, form)
    return peak() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="sizes of a toy, to see that it runs")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--rise", nargs=2, metavar=("METHOD", "FORM"), help="only print the memory of one step, in MB")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = SMALL if arguments.small else FULL
    if arguments.rise:
        print(rise(*arguments.rise, sizes))
        return
    check(sizes)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    networks = Networks(sizes)
    for what in METHODS + PARTS:
        taken = seconds(networks, what, arguments.repeats, clock)
        literal, ours = (statistics.median(taken[form]) for form in FORMS)
        spread = sorted(a / b for a, b in zip(*taken.values(), strict=True))
        print(
            f"{what:10}  literal {literal * 1e3:7.1f} ms  ours {ours * 1e3:7.1f} ms  "
            f"ratio {literal / ours:5.2f}  pair by pair {spread[0]:.2f} to {spread[-1]:.2f}"
        )
    if arguments.small:
        return  # the memory is too small to be measured
    for what in METHODS:
        command = [sys.executable, __file__, "--threads", str(arguments.threads)]
        literal, ours = (float(subprocess.check_output([*command, "--rise", what, form])) for form in FORMS)
        print(f"{what:10}  literal {literal:7.1f} MB  ours {ours:7.1f} MB  ratio {literal / ours:5.2f}")


if __name__ == "__main__":
    main()
