"""Reads images in a thread, one step ahead of the computation.

Reading from the image cache (memory map, checksums, scaling) releases Python's global lock, so it runs beside the
computation. Nothing here depends on a task or changes an image.
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

    `images` is indexed by a tensor of rows. `steps` are the rows of the coming calls, in this order. A call with the
    rows of the last call reads nothing; other rows are read when they are asked for. `waited` is called with the
    seconds that each call waited.
    """

    def __init__(
        self, images: Any, steps: Sequence[Tensor], device: torch.device, waited: Callable[[float], None]
    ) -> None:
        self._images, self._steps, self._device, self._waited = images, steps, device, waited
        self._thread = ThreadPoolExecutor(1)
        self._due = 0  # index of the next step
        self._coming: Future[Tensor] | None = None
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        if self._last is None or not torch.equal(self._last[0], rows):
            self._last = None  # frees its memory before more is allocated
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
        # From pinned memory, the copy to the device runs beside the computation too.
        return pixels.pin_memory() if self._device.type == "cuda" else pixels
