"""Images that are read in a thread, a step ahead of what is computed on them.

Reading from the cache of decoded images (pages of a memory map, checksums, scaling) holds no lock of the interpreter,
so that it goes on beside a step's computation. Nothing here depends on a task, nor changes what is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


class Prefetcher:
    """A function from rows (B,) to `images` of these rows on a device, uint8 (B, 3, H, W), read ahead.

    `images` are indexed by rows in a tensor. `steps` are the rows that will be asked for, in this order; asking for the
    same once more reads nothing. Other rows are read when they are asked for. `waited` is told how many seconds each
    reading was waited for.
    """

    def __init__(
        self, images: Any, steps: Sequence[Tensor], device: torch.device, waited: Callable[[float], None]
    ) -> None:
        self._images, self._steps, self._device, self._waited = images, steps, device, waited
        self._thread = ThreadPoolExecutor(1)
        self._due = 0  # the step that is asked for next
        self._coming: Future[Tensor] | None = None
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        if self._last is None or not torch.equal(self._last[0], rows):
            self._last = None  # its memory is free before more is asked for
            self._last = rows, self._arrived(rows).to(self._device, non_blocking=True)
        return self._last[1]

    def _arrived(self, rows: Tensor) -> Tensor:
        started = time.perf_counter()
        due = self._due < len(self._steps) and torch.equal(self._steps[self._due], rows)
        pixels = self._coming.result() if due and self._coming else self._read(rows)
        if due:
            self._due += 1
            more = self._due < len(self._steps)
            self._coming = self._thread.submit(self._read, self._steps[self._due]) if more else None
        self._waited(time.perf_counter() - started)
        return pixels

    def _read(self, rows: Tensor) -> Tensor:
        pixels = self._images[rows]
        # From pinned memory the copy to the device goes on beside the computation too.
        return pixels.pin_memory() if self._device.type == "cuda" else pixels
