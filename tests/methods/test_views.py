"""Training views: what is drawn for an image, and its pixels against Pillow's on real photographs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from methods.contract.randomness import numpy_generator, torch_generator
from methods.data import views as augmentation
from methods.data.pixels import decoded
from methods.data.views import EIGHTHS, cropped, flipped, squares, views
from methods.training.config import resolve
from methods.training.features import FeatureCache
from tests.methods import miniatures, tiny

SIDES = [512, 448, 384, 320, 256]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two photographs that scikit-learn brings along, as JPEG files and as they are stored (2, 3, 512, 512)."""
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / f"{number}.jpg" for number in range(2)]
    for path, pixels in zip(paths, load_sample_images().images, strict=True):
        Image.fromarray(pixels).save(path, quality=95)
    return paths, torch.from_numpy(np.stack([decoded(path) for path in paths]))


def drawn(images: int, side: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    return squares(torch.rand(images, 3, generator=torch_generator("test"), dtype=torch.float64), side)


def pillow(image: Image.Image, side: int, corner: tuple[int, int], size: int) -> np.ndarray:
    """A square of an image, cut out and scaled by Pillow, channels first."""
    y, x = corner
    square = image.crop((x, y, x + side, y + side)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square).transpose(2, 0, 1)


def mean_and_largest(found: torch.Tensor, expected: np.ndarray) -> tuple[float, int]:
    difference = np.abs(found.numpy().astype(int) - expected)
    return difference.mean(), difference.max()


# Draws


def test_all_sizes_and_all_places_of_a_square_are_as_likely():
    sides, corners = drawn(20_000)
    counts = [(sides == side).sum().item() for side in SIDES]
    assert sum(counts) == 20_000 and max(abs(count - 4000) for count in counts) < 250  # four standard deviations
    for side in SIDES:
        places = corners[sides == side]
        assert (places.min(), places.max()) == (0, 512 - side)
        assert places.double().mean().item() == pytest.approx((512 - side) / 2, abs=2.5)


def test_the_largest_draw_below_1_is_a_place_inside_the_image():
    largest = torch.full((1, 3), np.nextafter(1.0, 0.0), dtype=torch.float64)
    assert [part.tolist() for part in squares(largest, 512)] == [[256], [[256, 256]]]


def test_images_of_another_size_are_cut_in_the_same_proportions():
    sides, corners = drawn(1000, side=48)
    assert set(sides.tolist()) == {48 * eighths // 8 for eighths in EIGHTHS} == {48, 42, 36, 30, 24}
    assert ((corners >= 0) & (corners + sides[:, None] <= 48)).all()


@pytest.mark.parametrize("kind", ["shift", "flip", "crops"])
def test_a_view_depends_on_seed_epoch_and_row_alone_and_not_on_its_batch(kind):
    pixels = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8, generator=torch_generator("pixels"))
    rows = torch.arange(12)
    all_at_once = views(kind, 12, 48, 1, 3)(pixels, rows)
    assert all_at_once.dtype == torch.uint8
    assert all_at_once.shape[2:] == ((48, 48) if kind == "crops" else (64, 64))
    # In another order, beside others, one by one, and in a longer list.
    again = views(kind, 40, 48, 1, 3)
    assert torch.equal(again(pixels.flip(0), rows.flip(0)).flip(0), all_at_once)
    assert torch.equal(torch.cat([again(pixels[row : row + 1], rows[row : row + 1]) for row in rows]), all_at_once)
    for seed, epoch in ((1, 4), (2, 3)):
        assert not torch.equal(views(kind, 12, 48, seed, epoch)(pixels, rows), all_at_once)


def test_half_of_the_images_are_mirrored_and_the_same_ones_by_flip_and_by_crops():
    pixels = torch.arange(64, dtype=torch.uint8).expand(400, 3, 64, 64)  # dark left, bright right
    rows = torch.arange(400)
    mirrored = views("flip", 400, 64, 1, 1)(pixels, rows)
    flips = mirrored[:, 0, 0, 0] == 63
    assert 160 < flips.sum() < 240
    assert torch.equal(mirrored[flips], pixels[flips].flip(3))
    assert torch.equal(mirrored[~flips], pixels[~flips])
    parts = views("crops", 400, 32, 1, 1)(pixels, rows)
    assert torch.equal(parts[:, 0, 0, 0] > parts[:, 0, 0, -1], flips)


# Pixels


@pytest.mark.parametrize("device", ["cpu", "another"])
@pytest.mark.parametrize("size", [448, 224])
def test_squares_of_photographs_are_scaled_as_pillow_scales_them(size, device, photographs, monkeypatch):
    stored = photographs[1].repeat(10, 1, 1, 1)
    sides, corners = drawn(len(stored))
    assert set(sides.tolist()) == set(SIDES)
    expected = [
        pillow(Image.fromarray(image.permute(1, 2, 0).numpy()), side, corner, size)
        for image, side, corner in zip(stored, sides.tolist(), corners.tolist(), strict=True)
    ]
    if device == "another":  # what a GPU computes, on the CPU
        monkeypatch.setattr(augmentation, "SCALES_BYTES", ())
    mean, largest = mean_and_largest(cropped(stored, sides, corners, size), np.stack(expected))
    assert mean < 0.01
    assert largest <= 2


def test_a_square_of_the_right_size_is_cut_out_and_left_alone(photographs):
    _, stored = photographs
    found = cropped(stored, torch.tensor([448, 448]), torch.tensor([[3, 60], [64, 0]]), 448)
    assert torch.equal(found[0], stored[0, :, 3:451, 60:508])
    assert torch.equal(found[1], stored[1, :, 64:, :448])


def test_views_are_those_of_the_release_but_for_how_files_are_scaled_to_512_pixels(photographs):
    paths, stored = photographs
    flips = torch.tensor([True, False])
    for eighths in EIGHTHS:
        side = 64 * eighths
        corners = torch.tensor([[(512 - side) // 2, 0], [0, (512 - side) // 3]])
        found = flipped(cropped(stored, torch.tensor([side, side]), corners, 448), flips)
        for number, path in enumerate(paths):
            with Image.open(path) as image:
                whole = image.resize((512, 512), Image.Resampling.BICUBIC)
            expected = pillow(whole, side, corners[number].tolist(), 448)
            mean, _ = mean_and_largest(found[number], expected[:, :, ::-1] if flips[number] else expected)
            assert mean < 2.5


# In training


@pytest.mark.parametrize("kind", ["flip", "crops"])
def test_crops_are_cut_from_images_as_they_are_stored_and_other_views_made_of_what_the_network_sees(
    kind, tmp_path, monkeypatch
):
    root = miniatures.write("voc2007", tmp_path)
    data = {"data.dataset": "voc2007", "data.root": str(root), "data.image_size": 64, "data.val_fraction": 0.0}
    config = resolve(tiny.tiny("assume_negative", **data, **{"train.augmentation": kind}))
    training = tiny.new_training(config)
    before = training.initial_state()
    seen = []
    real = FeatureCache.through_trunk
    monkeypatch.setattr(FeatureCache, "through_trunk", lambda self, images: seen.append(images) or real(self, images))
    training.train(before, 2)
    split = training.task.train
    if kind == "crops":
        images = torch.from_numpy(np.stack([decoded(root / "VOCdevkit/VOC2007" / name) for name in split.names]))
    else:
        images = torch.from_numpy(split.images[:])
    order = torch.from_numpy(numpy_generator(1, 2, "order").permutation(len(split)))
    expected = views(kind, len(split), 64, 1, 2)(images, torch.arange(len(split)))[order]
    assert len(seen) == 1
    assert seen[0].shape == (6, 3, 64, 64)
    assert torch.equal(seen[0], expected)
