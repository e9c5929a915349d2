"""The training loop: state[e] = train_epoch(state[e-1], recipe(e), task, cache, seed, e), a pure function.

A state is a flat dict of tensors: `module/NAME/...` parameters and buffers, `optimizer/NAME/.../FIELD`, `method/NAME`.
All are on the CPU, on any device of computation. A state holds only what a recipe has used so far. A module that a
recipe needs for the first time is created in that epoch, from (seed, name). The loop reads no setting that is not in
the recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..contract.objective import Batch, EpochStart, Objective, Recipe
from ..contract.randomness import numpy_generator, seeded, torch_generator
from ..contract.task import Task
from ..data.views import OF_STORED, views
from .features import FeatureCache, Reader

State = dict[str, Tensor]
BACKBONE = "backbone"
REPORTS = ("loss", "images", "known_labels", "parameters")  # of an epoch, whatever the method


class NotFiniteError(FloatingPointError):
    """A loss or a score became NaN or infinite. The epoch has no result, and repeating it would not change this."""


def initial_state(cache: FeatureCache) -> State:
    """The state before epoch 1: the trained blocks of the backbone."""
    return _module_state({BACKBONE: cache.tail})


def train_epoch(
    state: State,
    recipe: Recipe,
    task: Task,
    cache: FeatureCache,
    seed: int,
    epoch: int,
    watch: Callable[[str, Tensor, Tensor], None] | None = None,
) -> tuple[State, dict[str, float]]:
    """The state after one epoch, and its training metrics: `loss`, the mean over the epoch's images; `images`, the
    number of training images; `known_labels`, the number of labels given; `parameters`, how many numbers the optimiser
    changes; and the objective's reports.

    `state` is not changed. `watch` receives what the objective notes; it has no effect. Raises `NotFiniteError` if a
    loss is not finite.
    """
    device = cache.device
    modules = _modules(state, recipe.objective, task, cache, seed)
    memory = recipe.objective.initial_state(task) | _section(state, "method")
    memory = {name: tensor.to(device, copy=True) for name, tensor in memory.items()}
    if recipe.optimizer_restarts:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("optimizer/")}
    frozen = recipe.learning_rate_backbone is None
    modules.eval()
    start = EpochStart(
        task,
        partial(_over_split, modules[BACKBONE], cache, "train", rows=torch.from_numpy(task.train_rows)),
        torch_generator(seed, epoch, "begin"),
    )
    with torch.no_grad():
        recipe.objective.begin_epoch(start, dict(modules.items()), memory)
    memory = {name: tensor.to(device) for name, tensor in memory.items()}
    modules.train()
    modules[BACKBONE].train(cache.batch_norm_trains and not frozen).requires_grad_(not frozen)
    optimizer = _optimizer(recipe, modules, _section(state, "optimizer"))
    observed, pictures = torch.from_numpy(task.observed), torch.from_numpy(task.train_rows)
    steps = _order(seed, epoch, len(observed), recipe.images).split(recipe.batch_size)
    if recipe.drop_last and len(steps) > 1 and len(steps[-1]) < recipe.batch_size:
        steps = steps[:-1]
    parts_of = [rows.chunk(recipe.micro_batches or 1) for rows in steps]
    images = _images(recipe, cache, seed, epoch, [pictures[part] for parts in parts_of for part in parts])
    features = _features(recipe, modules[BACKBONE], cache, images)
    total = 0.0
    for step, parts in enumerate(parts_of, start=1):
        optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for rows, share in zip(parts, _shares(recipe.objective, observed, parts), strict=True):
            changed = partial(_changed, modules[BACKBONE], cache, images, pictures[rows])
            batch = Batch(
                features(pictures[rows]),
                observed[rows].to(device),
                rows.to(device),
                progress=(step - 1) / len(steps),
                place=(seed, epoch, step),
                watch=watch,
                changed=changed,
            )
            loss = recipe.objective.loss(batch, dict(modules.items()), memory)
            if len(parts) > 1:
                loss = share * loss
            value += loss.item()
            if not math.isfinite(value):
                raise NotFiniteError(f"the loss is {value} in epoch {epoch}, step {step}")
            loss.backward()
        optimizer.step()
        total += value * sum(map(len, parts))
    after = {**state, **_module_state(modules), **_optimizer_state(optimizer, modules)}
    after |= {f"method/{name}": tensor.cpu() for name, tensor in memory.items()}
    with torch.no_grad():
        counts = (len(observed), task.annotations.sum(), _trained(optimizer))
        report = dict(zip(REPORTS, (total / sum(map(len, steps)), *map(float, counts)), strict=True))
        return after, {**report, **recipe.objective.report(dict(modules.items()), memory)}


@torch.no_grad()
def over_split(
    state: State,
    recipe: Recipe,
    task: Task,
    cache: FeatureCache,
    seed: int,
    split: str,
    function: Callable[[Tensor, dict[str, nn.Module]], Tensor],
) -> Tensor:
    """Apply `function` to the feature maps (b, D, H, W) of a split, chunk by chunk, and to the modules of the state
    after an epoch with this recipe.

    The modules are in eval mode; the results are concatenated on the CPU. Of the training split, only the images that
    are trained on are used. If the backbone was frozen in the epoch, its features are kept for the next epoch.
    """
    modules = _modules(state, recipe.objective, task, cache, seed).eval()
    rows = torch.from_numpy(task.train_rows) if split == "train" else None
    return _under(modules, recipe, cache, split, function, rows)


@torch.no_grad()
def scores(state: State, recipe: Recipe, task: Task, cache: FeatureCache, seed: int) -> dict[str, Tensor]:
    """Logits (N, K) float32 of val and test under a state; see `over_split`. Raises `NotFiniteError` for one not
    finite."""
    modules = _modules(state, recipe.objective, task, cache, seed).eval()
    logits = {split: _under(modules, recipe, cache, split, recipe.objective.logits) for split in ("val", "test")}
    for split, found in logits.items():
        if not found.isfinite().all():
            raise NotFiniteError(f"scores of {split} are not finite")
    return logits


def _under(
    modules: nn.ModuleDict,
    recipe: Recipe,
    cache: FeatureCache,
    split: str,
    function: Callable[[Tensor, dict[str, nn.Module]], Tensor],
    rows: Tensor | None = None,
) -> Tensor:
    known, frozen = dict(modules.items()), recipe.learning_rate_backbone is None
    return _over_split(modules[BACKBONE], cache, split, lambda maps, _: function(maps, known), rows=rows, frozen=frozen)


def _over_split(
    backbone: nn.Module,
    cache: FeatureCache,
    split: str,
    function: Callable[[Tensor, Tensor], Tensor],
    *,
    rows: Tensor | None = None,
    frozen: bool = False,
) -> Tensor:
    """Apply `function` to the feature maps of a split, or of its `rows`, and to the places of the images among these
    rows, chunk by chunk; the results are concatenated on the CPU. `frozen`: the maps are kept for the next epoch."""
    steps, images = cache.chunks(split, rows)
    places = torch.arange(sum(map(len, steps))).split(cache.chunk)
    read = _without_views(backbone, cache, split, images, frozen=frozen)
    return torch.cat([function(read(part), place).cpu() for part, place in zip(steps, places, strict=True)])


def _modules(state: State, objective: Objective, task: Task, cache: FeatureCache, seed: int) -> nn.ModuleDict:
    """The backbone's trained blocks and the objective's modules, with the weights in `state` if they are there."""
    modules: dict[str, nn.Module] = {BACKBONE: cache.trainable_backbone()}
    for name, make in objective.modules(cache.feature_map, task).items():
        # Each module has its own seed, so that its weights do not depend on the other modules.
        with seeded(seed, "module", name):
            modules[name] = make()
    for name, module in modules.items():
        stored = _section(state, f"module/{name}")
        if stored:
            module.load_state_dict(stored)
    return nn.ModuleDict(modules).to(cache.device)


def _order(seed: int, epoch: int, images: int, at_once: int | None) -> Tensor:
    """Rows (N,) of the training split in the order of an epoch.

    With `at_once`, an epoch has this many images. Epochs then follow one another through passes over all images, each
    pass in its own order; an epoch may end one pass and begin the next.
    """
    if at_once is None:
        return torch.from_numpy(numpy_generator(seed, epoch, "order").permutation(images))
    first, end = (epoch - 1) * at_once, epoch * at_once
    passes = range(first // images, (end - 1) // images + 1)
    orders = [torch.from_numpy(numpy_generator(seed, number, "pass").permutation(images)) for number in passes]
    return torch.cat(orders)[first - passes[0] * images :][:at_once]


def _shares(objective: Objective, labels: Tensor, parts: Sequence[Tensor]) -> list[float]:
    """The share of each of the `parts` (rows of labels (N, K)) in the loss of a batch."""
    if len(parts) == 1:
        return [1.0]
    weights = [objective.part_weight(labels[rows]) for rows in parts]
    return [weight / (sum(weights) or 1.0) for weight in weights]


def _images(recipe: Recipe, cache: FeatureCache, seed: int, epoch: int, steps: list[Tensor]) -> Reader:
    """A function from rows (B,) of all training images to uint8 images with this epoch's augmentation. It must be
    called with `steps`, in this order."""
    read = cache.image_reader("train", steps, stored=recipe.augmentation in OF_STORED)
    if recipe.augmentation is None:
        return read
    images = cache.images("train")
    view = views(recipe.augmentation, len(images), images.shape[-1], seed, epoch)
    return lambda rows: view(read(rows), rows)


def _features(recipe: Recipe, backbone: nn.Module, cache: FeatureCache, images: Reader) -> Reader:
    """A function from rows (B,) of all training images to their features (B, D, H, W) from the backbone."""
    if recipe.augmentation is not None:
        return lambda rows: cache.through_tail(backbone, cache.through_trunk(images(rows)))
    return _without_views(backbone, cache, "train", images, frozen=recipe.learning_rate_backbone is None)


def _without_views(backbone: nn.Module, cache: FeatureCache, split: str, images: Reader, *, frozen: bool) -> Reader:
    """A function from rows (B,) of a split to features of its `images` without augmentation; kept ones are reused."""
    if frozen:
        return cache.tail_reader(backbone, split, images)
    read = cache.trunk_reader(split, images)
    return lambda rows: cache.through_tail(backbone, read(rows))


def _changed(
    backbone: nn.Module, cache: FeatureCache, images: Reader, rows: Tensor, change: Callable[[Tensor], Tensor]
) -> Tensor:
    return cache.through_tail(backbone, cache.through_trunk(images(rows), change))


def _optimizer(recipe: Recipe, modules: nn.ModuleDict, stored: State) -> torch.optim.Optimizer:
    rates = {BACKBONE: recipe.learning_rate_backbone, **dict(recipe.learning_rates_own or ())}
    groups = [
        {"params": list(module.parameters()), "lr": rates.get(name, recipe.learning_rate_head)}
        for name, module in modules.items()
    ]
    groups = [group for group in groups if group["lr"] is not None]
    groups = [group for group in groups if group["params"]]
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(groups, weight_decay=recipe.weight_decay, fused=True)
    else:
        kind = torch.optim.SGD if recipe.optimizer == "sgd" else partial(torch.optim.RMSprop, alpha=0.9, eps=1.0)
        optimizer = kind(groups, momentum=recipe.momentum or 0.0, weight_decay=recipe.weight_decay)
    for name, parameter in modules.named_parameters():
        fields = _section(stored, name.replace(".", "/", 1))
        if fields:
            optimizer.state[parameter] = {
                field: tensor.to(parameter.device, copy=True) for field, tensor in fields.items()
            }
    return optimizer


def _trained(optimizer: torch.optim.Optimizer) -> int:
    """How many numbers the optimiser changes. At a learning rate of 0 it changes none."""
    groups = (group["params"] for group in optimizer.param_groups if group["lr"])
    return sum(parameter.numel() for group in groups for parameter in group if parameter.requires_grad)


def _optimizer_state(optimizer: torch.optim.Optimizer, modules: nn.ModuleDict) -> State:
    return {
        f"optimizer/{name.replace('.', '/', 1)}/{field}": tensor.detach().cpu()
        for name, parameter in modules.named_parameters()
        for field, tensor in optimizer.state.get(parameter, {}).items()
        if tensor is not None
    }


def _module_state(modules: dict[str, nn.Module] | nn.ModuleDict) -> State:
    return {
        f"module/{name}/{key}": tensor.detach().to("cpu", copy=True)
        for name, module in modules.items()
        for key, tensor in module.state_dict().items()
    }


def _section(state: State, prefix: str) -> State:
    """The entries below `prefix/`, without it."""
    start = f"{prefix}/"
    return {name[len(start) :]: tensor for name, tensor in state.items() if name.startswith(start)}
