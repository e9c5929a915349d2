"""Where trials run: what the nodes of a cluster offer, what a trial requests of Ray, and how many run at once.

Ray counts shares of a GPU, but does not limit the memory that a trial takes. So the share is computed from the memory
that a trial needs, with headroom. Nothing here starts Ray or a trial.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import UserError
from ..spaces.vocabulary import MEASURED

# CONTEXT: bytes that CUDA itself takes of a GPU in each process. HEADROOM: the share of a GPU that is left free, since
# torch's allocator keeps more than a trial uses, and the largest peak may not have been seen yet.
CONTEXT = 0.5e9
HEADROOM = 0.1
# The largest number of trials that share one GPU.
MOST_ON_A_GPU = 100
# The number of parts into which Ray divides one unit of a resource.
PARTS = 10_000


class PlacementError(UserError):
    """No node can hold a trial, or a node that can hold one would compute other results than this machine."""


# What every node offers.
_COMMON = ("CPU", "GPU", "memory", "object_store_memory", "node:")


@dataclass(frozen=True)
class Node:
    """A node of the cluster, and what it `offers` by Ray's names: `CPU`, `GPU`, what `ray start --resources` says."""

    id: str
    name: str
    offers: Mapping[str, float]

    def __str__(self) -> str:
        kinds = sorted(name for name in self.offers if not name.startswith(_COMMON))
        counted = [f"{self.offers.get(name, 0):g} {name}s" for name in ("CPU", "GPU")]
        return f"{self.name}: {', '.join(counted + kinds)}"


@dataclass(frozen=True)
class Placement:
    """What one trial requests of Ray, and how many trials the nodes hold at once."""

    request: Mapping[str, float]
    slots: int


def gpu_share(need: float, memories: Collection[float]) -> float:
    """The share of a GPU that a trial requests, so that each GPU gets as many trials as fit into the smallest GPU.

    `need` is the memory of one trial, `memories` those of the GPUs, in bytes. If only one trial fits, it gets a whole
    GPU, without headroom. Raises `PlacementError` if none fits.
    """
    smallest = min(memories)
    if need > smallest:
        raise PlacementError(
            f"resources.gpu_memory: a trial needs {need / 1e9:g} GB, the smallest GPU that it may get has "
            f"{smallest / 1e9:.1f} GB; ask for less, or by resources.kind for nodes with larger ones"
        )
    fitting = int(smallest * (1 - HEADROOM) / (need + CONTEXT))
    # Rounded down, because Ray would round 1/6 up to 0.1667, and a GPU holds only five of these.
    return PARTS // min(max(fitting, 1), MOST_ON_A_GPU) / PARTS


def resource_request(resources: Mapping[str, Any], peak: float | None, memories: Collection[float]) -> dict[str, float]:
    """What one trial requests of Ray, by Ray's names of resources.

    `peak` is the largest memory in bytes that trials like these have taken so far, None if none has run. `memories` are
    those of the GPUs that they may get, in bytes."""
    found = {"CPU": resources["cpu"], "GPU": resources["gpu"]}
    need = resources.get("gpu_memory")
    if need is not None:
        need = peak if need == MEASURED else need * 1e9
        found["GPU"] = gpu_share(need, memories) if need is not None and memories else 1
    if "kind" in resources:
        found[resources["kind"]] = 1 / PARTS
    return {name: amount for name, amount in found.items() if amount}


def capacity(asked: Mapping[str, float], nodes: Iterable[Node]) -> int:
    """How many trials the nodes hold at once. A trial is on one node, and a share of a GPU is of one GPU."""
    return sum(_on(node, asked) for node in nodes)


def _on(node: Node, asked: Mapping[str, float]) -> int:
    held = []
    for name, amount in asked.items():
        parts, offered = max(round(amount * PARTS), 1), node.offers.get(name, 0)
        on_each = name == "GPU" and amount < 1
        held.append(int(offered) * (PARTS // parts) if on_each else round(offered * PARTS) // parts)
    return min(held, default=1)


def this_machine() -> Node:
    """This machine as Ray would offer it."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return Node("", "this machine", {"CPU": cores, "GPU": torch.cuda.device_count()})


def gpus() -> list[tuple[str, int]]:
    """Name and memory in bytes of each GPU that torch finds on this machine."""
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [(one.name, one.total_memory) for one in found]
