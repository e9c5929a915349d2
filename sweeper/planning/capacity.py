"""Where trials run: what the nodes of a cluster offer, what a trial asks Ray for, and how many run at once.

Ray counts shares of a GPU and keeps nobody from taking more of its memory; so what a trial asks for follows from what
it needs, with headroom. Nothing here starts Ray or a trial.
"""

from __future__ import annotations

import functools
import os
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from methods.cache.keys import digest, fingerprint
from methods.training.platforms import identity

# Bytes that CUDA itself takes of a GPU in each process, and the share of it that no trial is given: torch's allocator
# keeps more than a trial uses, in pieces, and a peak need not have been seen yet.
CONTEXT = 0.5e9
HEADROOM = 0.1
# More trials are not put on one GPU.
MOST_ON_A_GPU = 100
# Ray counts in these parts.
PARTS = 10_000
MEASURED = "measured"
RESOURCES = ("cpu", "gpu", "gpu_memory", "kind")
# Seconds in which a node answers: its first answer loads torch, perhaps from a file system far away.
PATIENCE = 180.0


class PlacementError(ValueError):
    """No node can hold a trial, or one that can would compute something else than this machine."""


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
    """What one trial `asks` Ray for, and how many trials the nodes hold at once."""

    asks: Mapping[str, float]
    slots: int


def gpu_share(need: float, memories: Collection[float]) -> float:
    """The share of a GPU to ask for, so that as many trials are put on one as fit into the smallest.

    `need` is what one trial allocates, in bytes, `memories` what the GPUs have. A trial that fits alone gets a whole
    one, without headroom. Raises `PlacementError` for one that does not.
    """
    smallest = min(memories)
    if need > smallest:
        raise PlacementError(
            f"resources.gpu_memory: a trial needs {need / 1e9:g} GB, the smallest GPU that it may get has "
            f"{smallest / 1e9:.1f} GB; ask for less, or by resources.kind for nodes with larger ones"
        )
    fitting = int(smallest * (1 - HEADROOM) / (need + CONTEXT))
    # Rounded down: Ray would make a sixth 0.1667, of which a GPU holds five.
    return PARTS // min(max(fitting, 1), MOST_ON_A_GPU) / PARTS


def asks(resources: Mapping[str, Any], peak: float | None, memories: Collection[float]) -> dict[str, float]:
    """What one trial asks Ray for. `peak` is the largest memory in bytes that trials like these were seen to take, None
    if they were not; `memories` are of the GPUs that they may get, in bytes."""
    found = {"CPU": resources["cpu"], "GPU": resources["gpu"]}
    need = resources.get("gpu_memory")
    if need is not None:
        need = peak if need == MEASURED else need * 1e9
        found["GPU"] = gpu_share(need, memories) if need is not None and memories else 1
    if "kind" in resources:
        found[resources["kind"]] = 1 / PARTS
    return {name: amount for name, amount in found.items() if amount}


def request(asked: Mapping[str, float], avoid: Sequence[str]) -> Any:
    """What Ray Tune is to ask for: a place for one trial on any node but these, by id."""
    from ray.tune import PlacementGroupFactory

    where: Any = {"bundle_label_selector": [{"ray.io/node-id": f"!in({','.join(avoid)})"}]} if avoid else {}
    return PlacementGroupFactory([dict(asked)], **where)


def room(asked: Mapping[str, float], nodes: Iterable[Node]) -> int:
    """How many trials the nodes hold at once: none lies across two nodes, nor across two GPUs that it has parts of."""
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
    """Name and memory in bytes of each GPU that torch sees here."""
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [(one.name, one.total_memory) for one in found]


@functools.cache
def code() -> str:
    """Hash of the code of `methods` and `sweeper`, without docstrings and comments."""
    names = []
    for package in ("methods", "sweeper"):
        path = __import__(package).__path__
        names += [package, *(found.name for found in pkgutil.walk_packages(path, f"{package}."))]
    return digest({name: fingerprint(name) for name in names if not name.endswith("__main__")})


def look(device: str) -> dict[str, Any]:
    """What must be equal where trials of one sweep run, `code` and `platform`; and the `gpus` here."""
    return {"code": code(), "platform": identity(device), "gpus": gpus()}


def nodes() -> list[Node]:
    """The nodes of the cluster that this process has joined."""
    import ray

    return [
        Node(
            one["NodeID"],
            f"{one['NodeManagerHostname']} ({one['NodeManagerAddress']}, {one['NodeID'][:6]})",
            one["Resources"],
        )
        for one in ray.nodes()
        if one["Alive"]
    ]


def ask(those: Sequence[Node], question: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What each node answers to `question(*arguments)`, all at once, in tasks that take nothing of what they offer. An
    exception is an answer too."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(question)
    places = (NodeAffinitySchedulingStrategy(node.id, soft=False) for node in those)
    waiting = [task.options(scheduling_strategy=place).remote(*arguments) for place in places]
    ray.wait(waiting, num_returns=len(waiting), timeout=PATIENCE)

    def answer(reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=0)
        except Exception as error:  # Ray wraps what was raised there
            return getattr(error, "cause", error)

    return list(map(answer, waiting))


def place(resources: Mapping[str, Any], device: str, peak: float | None, *, elsewhere: bool) -> Placement:
    """Where trials that compute on `device` run in the cluster that this process has joined. `elsewhere`: it has other
    machines than this one. `peak` is as of `asks`.

    Raises `PlacementError` where no node can hold a trial, which Ray would wait for without a word, and where one that
    can has other code or another platform than this machine, whose keys the trials have.
    """
    there = nodes()
    able = [node for node in there if room(asks(resources, None, ()), [node])]
    if not able:
        wanted = ", ".join(f"{name}: {value}" for name, value in resources.items() if value)
        offered = "; ".join(map(str, there))
        raise PlacementError(
            f"resources: no node can hold a trial of {{{wanted}}} ({offered}); ask for less, such as "
            "--set resources.gpu=0, or start nodes that have it"
        )
    if elsewhere:
        here, answers = look(device), ask(able, look, device)
        unlike = [
            f"{node.name}: {differs(here, answer)}" for node, answer in zip(able, answers) if differs(here, answer)
        ]
        if unlike:
            raise PlacementError(
                f"nodes on which trials may run are not as this machine, whose keys they have; {'; '.join(unlike)}; "
                "bring them to the same code, or keep to those that are as this one (resources.kind)"
            )
    else:
        answers = [{"gpus": gpus() if "gpu_memory" in resources else []}]
    asked = asks(resources, peak, [size for answer in answers for _, size in answer["gpus"]])
    return Placement(asked, room(asked, able))


def differs(here: Mapping[str, Any], there: Any) -> str:
    """In what a node's `look` is unlike this machine's, for people; empty if in nothing that acts."""
    if isinstance(there, Exception):
        return failure(there)
    found = [] if there["code"] == here["code"] else ["other code"]
    names = sorted({*here["platform"], *there["platform"]})
    values = ((name, there["platform"].get(name, "none"), here["platform"].get(name, "none")) for name in names)
    return ", ".join(found + [f"{name} {its}, here {ours}" for name, its, ours in values if its != ours])


def failure(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
