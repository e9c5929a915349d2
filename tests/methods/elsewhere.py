"""A device that is not the CPU, for machines without one: what is not moved there, and not made there, fails.

    with elsewhere.device() as there:
        module.to(there)

Tensors of this device say that they are on "meta". They have values all the same, computed on the CPU, so that results
are those of the CPU to the bit. As on a GPU, an operation takes tensors of one device alone, but for numbers (tensors
without a dimension) and indices of the CPU; and none of them is a NumPy array.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"
_TAKE_CPU_INDICES = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")
_MOVES = ("_to_copy", "copy_", "copy")


class There(torch.Tensor):
    """A tensor of this device around one of the CPU."""

    values: torch.Tensor  # type: ignore[assignment]  # which dense tensors have no use for

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> There:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(NAME),
            requires_grad=False,
        )

    def __init__(self, values: torch.Tensor):
        self.values = values

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"There({self.values})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{function} outside of `device`")


class _Device(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), function.overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = any(isinstance(tensor, There) for tensor in given)
        if there and name not in _MOVES:
            among = given[:1] if name in _TAKE_CPU_INDICES else given
            strangers = [tuple(tensor.shape) for tensor in among if _is_cpu(tensor) and tensor.dim()]
            assert not strangers, f"{function} of this device and of the CPU: {strangers}"
        if kwargs.get("device") is not None:
            there, kwargs["device"] = torch.device(kwargs["device"]).type == NAME, torch.device("cpu")
        elif name == "copy_":
            there = isinstance(args[0], There)
        # What is written in place, or to `out`, is the tensor that was given.
        same = {id(tensor.values): tensor for tensor in given if isinstance(tensor, There)}
        args, kwargs = tree_map(_values, (args, kwargs))
        result = function(*args, **kwargs)
        if not there:
            return result
        return tree_map(lambda leaf: same[id(leaf)] if id(leaf) in same else _wrapped(leaf), result)


def _values(leaf: Any) -> Any:
    return leaf.values if isinstance(leaf, There) else leaf


def _wrapped(leaf: Any) -> Any:
    return There(leaf) if _is_cpu(leaf) else leaf


def _is_cpu(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and not isinstance(leaf, There)


@contextlib.contextmanager
def device() -> Iterator[torch.device]:
    """The device, which is there inside of the block."""
    with _Device():
        yield torch.device(NAME)
