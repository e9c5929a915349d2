"""The nodes of the cluster that this process has joined: what they offer, and if they are like this machine."""

from __future__ import annotations

import functools
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from methods.cache.keys import code_of, digest
from methods.training.platforms import identity

from ..planning.capacity import Node, Placement, PlacementError, capacity, gpus, resource_request

# Seconds to wait for a node. It loads torch before its first answer, perhaps from a slow network file system.
PATIENCE = 180.0


def request(asked: Mapping[str, float], avoid: Sequence[str]) -> Any:
    """A trial's request in Ray Tune's form; the trial is not put on nodes with the ids `avoid`."""
    from ray.tune import PlacementGroupFactory

    where: Any = {"bundle_label_selector": [{"ray.io/node-id": f"!in({','.join(avoid)})"}]} if avoid else {}
    return PlacementGroupFactory([dict(asked)], **where)


@functools.cache
def code() -> str:
    """Hash of the code of `methods` and `sweeper`, without docstrings and comments."""
    names = []
    for package in ("methods", "sweeper"):
        path = __import__(package).__path__
        names += [package, *(found.name for found in pkgutil.walk_packages(path, f"{package}."))]
    return digest({name: code_of(name) for name in names if not name.endswith("__main__")})


def node_fingerprint(device: str) -> dict[str, Any]:
    """`code` and `platform`, which must be equal on all nodes where trials of one sweep run; and the `gpus` here."""
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
    """What `question(*arguments)` returns on each node, or the exception that it raises there. All nodes are asked at
    the same time, in tasks that take no resources."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0)(question)
    places = (NodeAffinitySchedulingStrategy(node.id, soft=False) for node in those)
    waiting = [task.options(scheduling_strategy=place).remote(*arguments) for place in places]
    ray.wait(waiting, num_returns=len(waiting), timeout=PATIENCE)

    def answer(reference: Any) -> Any:
        try:
            return ray.get(reference, timeout=0)
        except Exception as error:  # Ray wraps the exception of the node
            return getattr(error, "cause", error)

    return list(map(answer, waiting))


def place(resources: Mapping[str, Any], device: str, peak: float | None, *, elsewhere: bool) -> Placement:
    """Where trials that compute on `device` run in the cluster that this process has joined. `elsewhere`: the cluster
    has machines other than this one. `peak` has the same meaning as in `resource_request`.

    Raises `PlacementError` if no node can hold a trial, because Ray would wait for ever without a message. Also if a
    node that can hold one has other code or another platform than this machine, where the trials' keys were computed.
    """
    there = nodes()
    able = [node for node in there if capacity(resource_request(resources, None, ()), [node])]
    if not able:
        wanted = ", ".join(f"{name}: {value}" for name, value in resources.items() if value)
        offered = "; ".join(map(str, there))
        raise PlacementError(
            f"resources: no node can hold a trial of {{{wanted}}} ({offered}); ask for less, such as "
            "--set resources.gpu=0, or start nodes that have it"
        )
    if elsewhere:
        here, answers = node_fingerprint(device), ask(able, node_fingerprint, device)
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
    asked = resource_request(resources, peak, [size for answer in answers for _, size in answer["gpus"]])
    return Placement(asked, capacity(asked, able))


def differs(here: Mapping[str, Any], there: Any) -> str:
    """How a node's `node_fingerprint` differs from this machine's, in words. Empty if it computes the same results."""
    if isinstance(there, Exception):
        return failure(there)
    found = [] if there["code"] == here["code"] else ["other code"]
    names = sorted({*here["platform"], *there["platform"]})
    values = ((name, there["platform"].get(name, "none"), here["platform"].get(name, "none")) for name in names)
    return ", ".join(found + [f"{name} {its}, here {ours}" for name, its, ours in values if its != ours])


def failure(error: Exception) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
