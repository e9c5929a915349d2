"""What numbers depend on besides code and settings: the machine's arithmetic and the libraries' versions."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")
# cuBLAS reads it when a process first uses a GPU, and sums in an order of its own without it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# How torch, on the CPU, and libraries of a GPU say that there is no memory left, without an error of its own.
_NO_MEMORY = "DefaultCPUAllocator: can't allocate", "STATUS_ALLOC_FAILED"


@dataclass(frozen=True)
class Compute:
    """Where networks compute, and how: all that changes the last digits of what comes out.

    `precision` is that of the sums: `fp32`; `tf32`, which GPUs do faster, with inputs rounded to 10 bits; or `bf16`, in
    the backbone alone.
    """

    device: str = "cpu"
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False

    def autocast(self) -> contextlib.AbstractContextManager:
        """What a backbone computes within."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)


def default_device() -> str:
    """The device that `auto` stands for."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def memory(device: str) -> tuple[str, int]:
    """What a device is called, and its memory in bytes."""
    if device == "cuda":
        found = torch.cuda.get_device_properties()
        return found.name, found.total_memory
    return "this machine", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the machine, has too little memory."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY))


@functools.cache
def identity(device: str = "cpu") -> dict[str, str]:
    """What must be equal for two machines to be one platform: results are promised bit for bit on one only.

    The vendor is in it because the vector libraries choose their kernels by vendor as well as by instruction set.
    """
    found = {
        "machine": platform.machine(),
        "vendor": _cpu_vendor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **{name: version(name) for name in LIBRARIES},
    }
    if device == "cuda":
        libraries = {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        found |= {"gpu": torch.cuda.get_device_name(), **libraries}
    return found


def _cpu_vendor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("vendor_id", "CPU implementer")):
                return line.partition(":")[2].strip()
    return platform.processor()


@contextlib.contextmanager
def deterministic(threads: int, precision: str | None = None) -> Iterator[None]:
    """Code inside runs on `threads` threads and refuses operations whose result may differ from run to run. `precision`
    is as of `Compute`; None leaves it as it is."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    # What use_deterministic_algorithms(True) does, without its two seconds of importing torch's compiler.
    torch.set_deterministic_debug_mode("error")
    # Would fill every new tensor with NaN, to show up reads of memory nobody wrote; costs 3 % here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with _tf32(precision == "tf32") if precision else contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """torch allows it in convolutions, and not in matrix products, unless told otherwise."""
    places: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = allowed
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value
