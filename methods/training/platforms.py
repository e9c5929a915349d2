"""What results depend on beside code and settings: processor, device, precision, and versions of libraries."""

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
# cuBLAS reads it when a process first uses a GPU. Without it, the order of its sums may vary.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Texts of errors of torch on the CPU and of GPU libraries that mean "out of memory"; they have no class of their own.
_NO_MEMORY = "DefaultCPUAllocator: can't allocate", "STATUS_ALLOC_FAILED"


@dataclass(frozen=True)
class Compute:
    """The device and the number format of computation. Each field can change the last digits of a result. `precision`:
    `fp32`; `tf32`, faster on GPUs, with inputs rounded to 10 bits; or `bf16`, in the backbone only."""

    device: str = "cpu"
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which the backbone computes."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)


def default_device() -> str:
    """The device that `auto` stands for."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def memory(device: str) -> tuple[str, int]:
    """The name of a device and its memory in bytes."""
    if device == "cuda":
        found = torch.cuda.get_device_properties()
        return found.name, found.total_memory
    return "this machine", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine has too little memory."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY))


@functools.cache
def identity(device: str = "cpu") -> dict[str, str]:
    """The properties that identify a platform. Results are equal bit for bit on one platform only. The CPU vendor is
    one of them, because numeric libraries choose their kernels by vendor and instruction set."""
    found = {
        "python": ".".join(platform.python_version_tuple()[:2]),
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
    """Code in the block runs on `threads` threads, and operations without a deterministic result raise an error.
    `precision` is that of `Compute`; None leaves it unchanged."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    # Same as use_deterministic_algorithms(True), but that imports torch's compiler, which takes two seconds.
    torch.set_deterministic_debug_mode("error")
    # By default every new tensor would be filled with NaN, to detect reads of unwritten memory; this costs 3 %.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with _tf32(precision == "tf32") if precision else contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allows or forbids TF32. By default torch allows it in convolutions, but not in matrix products."""
    places: tuple[Any, ...] = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = allowed
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value
