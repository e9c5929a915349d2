"""What numbers depend on besides code and settings: the machine's arithmetic and the libraries' versions."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch

LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn")


@functools.cache
def identity() -> dict[str, str]:
    """What must be equal for two machines to be one platform: results are promised bit for bit on one only.

    The vendor is in it because the vector libraries choose their kernels by vendor as well as by instruction set.
    """
    return {
        "machine": platform.machine(),
        "vendor": _cpu_vendor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **{name: version(name) for name in LIBRARIES},
    }


def _cpu_vendor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("vendor_id", "CPU implementer")):
                return line.partition(":")[2].strip()
    return platform.processor()


@contextlib.contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Code inside runs on `threads` threads and refuses operations whose result may differ from run to run."""
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(threads)
    # What use_deterministic_algorithms(True) does, without its two seconds of importing torch's compiler.
    torch.set_deterministic_debug_mode("error")
    # Would fill every new tensor with NaN, to show up reads of memory nobody wrote; costs 3 % here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
