"""Training on photographs of the papers' size: images per second and shares of the time, compared with a plain loop.

    python benchmarks/training.py [large_loss sst sarb] [--steps 6] [--batch 8] [--repeats 3] [--precision fp32 bf16]
    python benchmarks/training.py --small          # toy sizes, to see that it runs

    large_loss   ResNet-50, all of it trained, images mirrored
    sst, sarb    ResNet-101, the last stage trained, square crops; 80 classes, widths of the releases, all parts on

Our side is an epoch of `methods.training.fit`: images are decoded once before, read ahead from the cache, and augmented
in batches on the device. The plain loop does the same as the released code: the workers of a `DataLoader` decode,
scale, crop, mirror and normalise with Pillow; the model is torchvision's; the loss is that of the same objective;
`loss.item()` is called at each step. Its networks behind the backbone are the literal formulas on whole tensors, as in
`benchmarks/decoupling.py`. Weights are random.

The photographs are parts of scikit-learn's two sample images, written as JPEG files of COCO's usual size in COCO's
layout. The two sides alternate in one process. Ratios are taken epoch by epoch, after one epoch of each that is not
counted; each side waits for its own first batch. Processor time includes all threads and the loader's workers. Then the
parts of one more epoch of our side are timed (on a GPU with a wait after each part), and both inputs are run without a
network.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchvision
from decoupling import LITERAL, bound
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from methods.contract.objective import Batch
from methods.data.views import OF_STORED, views
from methods.networks.resnet import MEAN, STD
from methods.training import loop
from methods.training.config import Config, resolve
from methods.training.features import FeatureCache
from methods.training.fit import Training

CLASSES = 80
COMMON = {
    "data.dataset": "coco2014",
    "data.val_fraction": 0.0,
    "network.weights": "random",
    "network.batch_norm": "train",
    "network.pooling": "mean",
    "train.learning_rate": 1e-5,
    "train.schedule": "constant",
}
KNOWN_PROPORTIONS = {
    "data.labels": "proportion",
    "network.backbone": "resnet101",
    "network.frozen_blocks": 4,
    "network.map_pooling": 2,
    "train.weight_decay": 5e-4,
    "train.augmentation": "crops",
    "start_epoch": 2,
}
METHODS: dict[str, dict[str, Any]] = {
    "large_loss": {
        "data.labels": "single_positive",
        "network.backbone": "resnet50",
        "network.frozen_blocks": 0,
        "train.augmentation": "flip",
    },
    "sst": KNOWN_PROPORTIONS,
    "sarb": {**KNOWN_PROPORTIONS, "prototypes_every": 100},
}
SMALL = {"network.backbone": "resnet18", "data.image_size": 64}
# The least number of images for the timing of the inputs alone.
IMAGES_READ = 100
# The first epoch in which all parts of the method act. It is not counted.
FIRST_EPOCH = 2


def photographs(root: Path, images: int) -> None:
    """Makes a small COCO 2014: `images` JPEG files for training and two for test, each with 1 to 5 of 80 classes."""
    rng = np.random.default_rng(0)
    originals = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    for part, number in (("train2014", images), ("val2014", 2)):
        (root / part).mkdir(parents=True)
        entries, annotations = [], []
        for id in range(1, number + 1):
            original, share = originals[rng.integers(2)], rng.uniform(0.6, 1)
            width, height = (int(share * side) for side in original.size)
            x, y = (int(rng.integers(whole - part + 1)) for whole, part in zip(original.size, (width, height)))
            size = (640, 480) if rng.random() < 0.7 else (480, 640)
            name = f"COCO_{part}_{id:012d}.jpg"
            original.crop((x, y, x + width, y + height)).resize(size).save(root / part / name, quality=90)
            entries.append({"id": id, "file_name": name, "width": size[0], "height": size[1]})
            for category in rng.choice(CLASSES, rng.integers(1, 6), replace=False) + 1:
                box = {"bbox": [0, 0, *size], "area": size[0] * size[1], "iscrowd": 0}
                annotations.append({"id": len(annotations) + 1, "image_id": id, "category_id": int(category), **box})
        path = root / f"annotations/instances_{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))


class Files(Dataset):
    """Image files as in the loaders of the releases: (3, S, S) float32, with labels and row."""

    def __init__(self, root: Path, training: Training):
        train, size = training.task.train, training.feature_cache.images("train").shape[-1]
        self._paths = [root / name for name in train.names]
        self._labels = torch.from_numpy(training.task.observed)
        scaled = transforms.Resize((size, size))
        if training.config.train.augmentation == "crops":
            bicubic = transforms.InterpolationMode.BICUBIC
            square = transforms.RandomChoice([transforms.RandomCrop(side) for side in (512, 448, 384, 320, 256)])
            parts = [transforms.Resize((512, 512), bicubic), square, transforms.Resize((size, size), bicubic)]
            scaled = transforms.Compose(parts)
        mirrored = transforms.RandomHorizontalFlip()
        self._view = transforms.Compose([scaled, mirrored, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor, int]:
        with Image.open(self._paths[row]) as image:
            return self._view(image.convert("RGB")), self._labels[row], row


class Plain:
    """The plain loop. It starts from the method state of our side after its first epoch."""

    def __init__(self, training: Training, state: loop.State, root: Path, workers: int):
        config, self._device = training.config, training.feature_cache.device
        self._objective = config.recipe(FIRST_EPOCH + 1).objective
        self._compute = config.train.compute()
        self._layout = torch.channels_last if self._compute.channels_last else torch.contiguous_format
        model = getattr(torchvision.models, config.network.backbone)(weights=None)
        stages = [*model.children()][:-2]  # the stem's four modules and the stages, without pooling and classifier
        trained = stages if config.network.frozen_blocks == 0 else stages[-1:]
        self._backbone = nn.Sequential(*stages).requires_grad_(False).eval()
        self._backbone.to(self._device, memory_format=self._layout)
        for stage in trained:
            stage.requires_grad_(True).train()
        if config.network.map_pooling > 1:
            self._backbone.append(nn.AvgPool2d(config.network.map_pooling))
        made = self._objective.modules(training.feature_cache.feature_map, training.task)
        self._head = {name: make().to(self._device) for name, make in made.items()}
        for module in self._head.values():
            if type(module) in LITERAL:
                module.forward = bound(LITERAL[type(module)], module)
        self._memory = {
            name.removeprefix("method/"): tensor.to(self._device, copy=True)
            for name, tensor in state.items()
            if name.startswith("method/")
        }
        parameters = [p for module in (self._backbone, *self._head.values()) for p in module.parameters()]
        self._optimizer = torch.optim.Adam(
            [p for p in parameters if p.requires_grad],
            config.train.learning_rate,
            weight_decay=config.train.weight_decay,
        )
        self.loader = DataLoader(
            Files(root, training),
            config.train.batch_size,
            shuffle=True,
            num_workers=workers,
            pin_memory=self._device.type == "cuda",
            persistent_workers=workers > 0,  # starting workers would take a large part of such a short epoch
        )

    def processor_time(self) -> float:
        """Processor seconds of this process and the loader's workers so far, from Linux."""
        workers = self.loader._iterator._workers if self.loader._iterator else []
        fields = [Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split() for worker in workers]
        ticks = sum(int(times[11]) + int(times[12]) for times in fields)
        return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")

    def epoch(self) -> float:
        """One epoch; returns the seconds in which it waited for the loader."""
        waited, batches = 0.0, iter(self.loader)
        for step in range(1, len(self.loader) + 1):
            started = time.perf_counter()
            pixels, labels, rows = next(batches)
            waited += time.perf_counter() - started
            pixels = pixels.to(self._device, non_blocking=True, memory_format=self._layout)
            with self._compute.autocast():
                features = self._backbone(pixels)
            progress = (step - 1) / len(self.loader)
            labels, rows = labels.to(self._device), rows.to(self._device)
            batch = Batch(features.float(), labels, rows, progress, (0, FIRST_EPOCH, step))
            loss = self._objective.loss(batch, self._head, self._memory)
            loss.item()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        return waited


class Stopwatch:
    """Seconds of each part. On a GPU it waits for the device at the beginning and end of each part."""

    def __init__(self, device: torch.device):
        self._device = device
        self.seconds: Counter[str] = Counter()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*given: Any, **named: Any) -> Any:
            started = self.now()
            result = function(*given, **named)
            self.seconds[part] += self.now() - started
            return result

        return wrapped

    def now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @contextlib.contextmanager
    def on(self, *places: tuple[Any, str, str]) -> Iterator[None]:
        """Time functions, given by owner and name, as parts."""
        with contextlib.ExitStack() as stack:
            for owner, name, part in places:
                stack.enter_context(mock.patch.object(owner, name, self.timed(part, getattr(owner, name))))
            yield


def apart(training: Training, state: loop.State, epoch: int) -> dict[str, float]:
    """The shares of the parts in the time of an epoch of our side."""
    cache, objective = training.feature_cache, type(training.config.recipe(epoch).objective)
    watch = Stopwatch(cache.device)
    before, started = cache.waited, watch.now()
    made = mock.patch.object(loop, "views", lambda *given: watch.timed("views", views(*given)))
    places = [
        (FeatureCache, "through_trunk", "backbone"),
        (FeatureCache, "through_tail", "backbone"),
        (objective, "loss", "head"),
    ]
    with made, watch.on(*places, (Tensor, "backward", "backward"), (torch.optim.Adam, "step", "update")):
        training.train(state, epoch)
    total = watch.now() - started
    seconds = {"waiting": cache.waited - before, **watch.seconds}
    return {part: value / total for part, value in {**seconds, "rest": total - sum(seconds.values())}.items()}


def inputs(training: Training, plain: Plain) -> dict[str, tuple[float, float]]:
    """Seconds and processor seconds per image of both inputs, without a network."""
    cache, train = training.feature_cache, training.config.train
    images = cache.images("train")
    steps = torch.arange(len(images)).split(train.batch_size)

    def ours(number: int) -> None:
        read = cache.image_reader("train", steps, stored=train.augmentation in OF_STORED)
        view = views(train.augmentation, len(images), images.shape[-1], 0, number)
        for rows in steps:
            cache.backbone.normalise(view(read(rows), rows))

    def other(number: int) -> None:
        for pixels, _, _ in plain.loader:
            pixels.to(cache.device)

    now, passes, found = Stopwatch(cache.device).now, -(-IMAGES_READ // len(images)), {}
    for side, one_pass in (("ours", ours), ("plain", other)):
        one_pass(0)
        spent, started = plain.processor_time(), now()
        for number in range(passes):
            one_pass(number)
        seconds = now() - started, plain.processor_time() - spent
        found[side] = tuple(value / passes / len(images) for value in seconds)
    return found


def trained(training: Training, state: loop.State, plain: Plain, repeats: int) -> None:
    """Print times of epochs that start from a state."""
    cache = training.feature_cache
    plain.epoch()
    now = Stopwatch(cache.device).now
    images = len(training.task.train)
    found: dict[str, list[tuple[float, float, float]]] = {"ours": [], "plain": []}
    for epoch in range(FIRST_EPOCH + 1, FIRST_EPOCH + 1 + repeats):
        for side in found:
            waited, spent, started = cache.waited, plain.processor_time(), now()
            if side == "ours":
                training.train(state, epoch)
                waited = cache.waited - waited
            else:
                waited = plain.epoch()
            seconds = now() - started
            found[side].append((seconds / images, (plain.processor_time() - spent) / images, waited / seconds))
    for side, values in found.items():
        each, spent, waiting = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"  {side:5} {1 / each:9.2f} images/s  {spent:7.3f} s of processors an image  {waiting:5.1%} waiting")
    for name, place in (("time", 0), ("processor time", 1)):
        ratios = sorted(other[place] / ours[place] for ours, other in zip(*found.values(), strict=True))
        print(f"  plain over ours, {name}: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    parts = apart(training, state, FIRST_EPOCH + 1 + repeats)
    print("  ours apart: " + ", ".join(f"{part} {share:.1%}" for part, share in parts.items()))


def compare(config: Config, root: Path, repeats: int, workers: int) -> None:
    """Print the times of both sides; with `repeats` 0 only those of their inputs."""
    training = Training(config, root / "store")
    training.prepare()
    state = training.initial_state()
    if repeats:
        state, _ = training.train(state, FIRST_EPOCH)
    plain = Plain(training, state, root, workers)
    if repeats:
        trained(training, state, plain, repeats)
    for side, (each, spent) in inputs(training, plain).items():
        print(f"  input alone, {side}: {1 / each:.1f} images/s, {spent * 1e3:.1f} ms of processors an image")


def machine() -> str:
    """A description of the machine, for people."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown processor",
    )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores{gpu}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", choices=[*METHODS, []], help="default: all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each side that are counted; 0: inputs alone")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="of the plain loop's loader")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "tf32", "bf16"), default=["fp32"])
    parser.add_argument("--channels-last", action="store_true", help="memory layout of the backbone's maps")
    parser.add_argument("--small", action="store_true", help="sizes of a toy, to see that it runs")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(machine())
    with tempfile.TemporaryDirectory(prefix="photographs-") as folder:
        root = Path(folder)
        os.environ["SWEEPER_IMAGES"] = str(root / "images")
        photographs(root, given.batch * given.steps)
        for method in given.methods or METHODS:
            for precision in given.precision:
                own = {
                    "train.batch_size": given.batch,
                    "train.threads": given.threads,
                    "train.precision": precision,
                    "train.channels_last": given.channels_last,
                }
                # The same setting for both sides: by default torch uses tf32 in convolutions.
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
                small = SMALL if given.small else {}
                where = {"method": method, "data.root": str(root)}
                config = resolve({**COMMON, **METHODS[method], **small, **own, **where}, published=True)
                print(
                    f"{method}, {config.network.backbone}, {config.data.image_size} pixels, batch {given.batch}, "
                    f"{precision}, {given.threads} threads, {given.workers} workers"
                )
                compare(config, root, given.repeats, given.workers)


if __name__ == "__main__":
    main()
