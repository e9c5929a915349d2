"""Decoded images: what an image file becomes, and that a cache is complete, sound, or not used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from methods import data
from methods.data import DataSettings, image_cache, registry
from methods.data.image_cache import Cache
from methods.data.listing import DataError
from methods.data.pixels import ImageError, decoded
from tests.conftest import read_only
from tests.methods import miniatures

ROOT = Path(__file__).parents[2]
NAMES = tuple(f"{number}.jpg" for number in range(6))


@pytest.fixture(autouse=True)
def images_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tmp_path / "images"))


@pytest.fixture
def source(tmp_path):
    for number, name in enumerate(NAMES):
        miniatures.picture(tmp_path / "source" / name, number)
    return tmp_path / "source"


def damage(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        before = file.read(1)
        file.seek(offset)
        file.write(bytes([before[0] ^ 1]))


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return np.abs(one.astype(int) - other.astype(int)).mean() < 4


# Pixels


def test_an_image_is_scaled_to_512_by_512_pixels_with_its_channels_first(tmp_path):
    miniatures.picture(tmp_path / "a.png", 3, (600, 300))
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(image.resize((512, 512), Image.Resampling.BILINEAR))
    found = decoded(tmp_path / "a.png")
    assert found.shape == (3, 512, 512) and found.dtype == np.uint8
    np.testing.assert_array_equal(found.transpose(1, 2, 0), expected)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "jpg"), ("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("1", "png")]
)
def test_images_of_other_modes_become_rgb(mode, suffix, tmp_path):
    miniatures.picture(tmp_path / "a.png", 1, (64, 64))
    with Image.open(tmp_path / "a.png") as image:
        other = image.quantize(64) if mode == "P" else image.convert(mode)
        other.save(tmp_path / f"b.{suffix}")
        expected = np.asarray(other.convert("L"))
    found = decoded(tmp_path / f"b.{suffix}").astype(float)
    grey = np.array([0.299, 0.587, 0.114]) @ found[:, 4::8, 4::8].reshape(3, -1)
    assert np.corrcoef(grey, expected.ravel())[0, 1] > 0.97
    if mode in ("L", "1"):
        assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_sixteen_bits_of_grey_are_scaled_not_cut_off(tmp_path):
    values = np.linspace(0, 65_535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = decoded(tmp_path / "a.png")[0]
    assert found[0, 0] < 4 and found[-1, -1] > 251 and 120 < found[256, 256] < 135


def test_what_is_transparent_is_white(tmp_path):
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "a.png")
    assert (decoded(tmp_path / "a.png") == 255).all()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_image_that_its_exif_data_says_is_rotated_is_turned_upright(orientation, tmp_path):
    turned = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    miniatures.picture(tmp_path / "a.png", 2, (128, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(tmp_path / "a.png") as image:
        image.transpose(turned).save(tmp_path / "b.jpg", quality=95, exif=exif)
        image.transpose(turned).save(tmp_path / "c.jpg", quality=95)
    assert close(decoded(tmp_path / "b.jpg"), decoded(tmp_path / "a.png"))
    assert not close(decoded(tmp_path / "c.jpg"), decoded(tmp_path / "a.png"))


@pytest.mark.parametrize("kept", [0, 10, 300, 0.5, 0.95])
def test_a_truncated_jpeg_is_refused_by_name(kept, tmp_path):
    miniatures.picture(tmp_path / "a.jpg", 0, (300, 200))
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be decoded: "):
        decoded(tmp_path / "a.jpg")


def test_an_image_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(ImageError, match=r"a\.jpg: is not there"):
        decoded(tmp_path / "a.jpg")


# Making a cache


def test_a_cache_holds_what_was_decoded_in_the_order_that_is_asked_for(source):
    made = Cache("own", source, NAMES)
    told = []
    assert not made.complete
    assert made.make(lambda done, of: told.append((done, of))) == 6
    assert made.complete and made.size == 6 * 3 * 512 * 512
    assert told == [(done, 6) for done in range(7)]
    images = made.images(("4.jpg", "0.jpg", "4.jpg"), 512)
    expected = np.stack([decoded(source / name) for name in ("4.jpg", "0.jpg", "4.jpg")])
    np.testing.assert_array_equal(images[:], expected)
    np.testing.assert_array_equal(np.asarray(images), expected)
    np.testing.assert_array_equal(images[np.array([2, 1])], expected[[2, 1]])
    np.testing.assert_array_equal(images.part(np.array([1]))[:], expected[1:2])
    assert torch.equal(images[torch.tensor([1, 0])], torch.from_numpy(expected[[1, 0]]))
    assert [len(chunk) for chunk in images.split(2)] == [2, 1]


def test_images_are_scaled_to_the_size_that_is_asked_for(source):
    made = Cache("own", source, NAMES)
    made.make()
    found = made.images(NAMES, 64)[:]
    assert found.shape == (6, 3, 64, 64) and found.dtype == np.uint8
    for image, name in zip(found, NAMES, strict=True):
        full = Image.fromarray(decoded(source / name).transpose(1, 2, 0))
        expected = np.asarray(full.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert np.abs(image.astype(int) - expected).max() <= 1
    assert made.images((), 64)[:].shape == (0, 3, 64, 64)


def test_a_complete_cache_is_verified_and_nothing_is_decoded_again(source, monkeypatch):
    Cache("own", source, NAMES).make()
    before = Cache("own", source, NAMES).images(NAMES, 512)[:]
    monkeypatch.setattr(image_cache.pixels, "decoded", lambda path: pytest.fail(f"{path} was decoded again"))
    assert Cache("own", source, NAMES).make() == 0
    np.testing.assert_array_equal(Cache("own", source, NAMES).images(NAMES, 512)[:], before)


def test_other_images_other_folders_and_other_data_sets_have_caches_of_their_own(source, tmp_path):
    folders = {
        Cache(*given).folder
        for given in [
            ("own", source, NAMES),
            ("own", source, NAMES[:5]),
            ("own", tmp_path, NAMES),
            ("coco", source, NAMES),
        ]
    }
    assert len(folders) == 4


def test_an_interrupted_cache_goes_on_where_it_stopped(source, monkeypatch):
    monkeypatch.setattr(image_cache, "_AT_ONCE", 2)

    def stopped(done: int, of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    made = Cache("own", source, NAMES)
    with pytest.raises(KeyboardInterrupt):
        made.make(stopped, workers=1)
    assert not made.complete and not made.folder.exists()
    assert 3 <= 6 - made.make() <= 5  # images are being decoded while others are counted
    np.testing.assert_array_equal(made.images(NAMES, 512)[:], np.stack([decoded(source / name) for name in NAMES]))


def test_a_killed_cache_goes_on_where_it_stopped_and_never_has_its_final_name_before(source, tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from methods.data import image_cache; image_cache._AT_ONCE = 2\n"
        "def slowly(done, of):\n"
        "    print(done, flush=True)\n"
        "    time.sleep(done >= 4 and 60)\n"
        f"image_cache.Cache('own', Path(sys.argv[1]), {NAMES!r}).make(slowly, workers=1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, source], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert any(line.strip() == "4" for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    made = Cache("own", source, NAMES)
    assert not made.folder.exists()
    with open(made.folder.with_name(f"{made.folder.name}.partial") / "index", "a") as index:
        index.write("5 123 4")  # a line that the kill cut short
    assert made.make() in (2, 3, 4)
    np.testing.assert_array_equal(made.images(NAMES, 512)[:], np.stack([decoded(source / name) for name in NAMES]))


def test_two_processes_make_a_cache_once(source):
    program = (
        "import sys; from pathlib import Path; from methods.data.image_cache import Cache\n"
        f"print(Cache('own', Path(sys.argv[1]), {NAMES!r}).make())\n"
    )
    command = [sys.executable, "-c", program, str(source)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    assert sorted(process.communicate()[0].strip() for process in both) == ["0", "6"]


def test_images_that_cannot_be_decoded_are_named_together_and_the_others_are_kept(source):
    whole = (source / "2.jpg").read_bytes()
    (source / "2.jpg").write_bytes(whole[:400])
    (source / "4.jpg").write_text("no image")
    made = Cache("own", source, NAMES)
    with pytest.raises(DataError, match=r"own: 2 of 6 images cannot be used, the others are kept: .*2\.jpg.*4\.jpg"):
        made.make()
    assert not made.complete
    (source / "2.jpg").write_bytes(whole)
    shutil.copy(source / "3.jpg", source / "4.jpg")
    assert made.make() == 2


# Damage


@pytest.mark.parametrize("row", [0, 5])
def test_a_damaged_image_is_noticed_before_it_is_used_and_decoded_again(row, source):
    made = Cache("own", source, NAMES)
    made.make()
    damage(made.folder / "pixels", row * image_cache.BYTES + 1000)
    images = made.images(NAMES, 64)
    images[np.array([2, 3])]
    with pytest.raises(
        DataError, match=rf"image {row} is damaged; `python -m sweeper data cache own --root .*` decodes"
    ):
        images[np.array([row])]
    assert made.make() == 1
    made.images(NAMES, 64)[:]


@pytest.mark.parametrize("file", ["pixels", "index"])
def test_a_cache_cut_short_is_noticed(file, source):
    made = Cache("own", source, NAMES)
    made.make()
    os.truncate(made.folder / file, 40)
    with pytest.raises(DataError, match="is damaged"):
        made.images(NAMES, 64)
    assert made.make() == (6 if file == "pixels" else 5)
    made.images(NAMES, 64)[:]


def test_an_image_file_that_changed_is_decoded_again_when_the_cache_is_made_again(source):
    made = Cache("own", source, NAMES)
    made.make()
    miniatures.picture(source / "1.jpg", 99)
    os.utime(source / "1.jpg", ns=(time.time_ns(), time.time_ns() + 10**9))
    assert made.make() == 1
    np.testing.assert_array_equal(made.images(("1.jpg",), 512)[:][0], decoded(source / "1.jpg"))


def test_no_room_is_said_before_anything_is_decoded(source, tiny_disk, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tiny_disk))
    monkeypatch.setattr(image_cache.pixels, "decoded", lambda path: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"6 images need 0\.0 GB, and 0\.0 GB are free; SWEEPER_IMAGES"):
        Cache("own", source, NAMES).make()


def test_a_disk_that_fills_up_meanwhile_or_cannot_be_written_is_one_clear_error(source, tiny_disk, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tiny_disk))
    monkeypatch.setattr(Cache, "_refuse_unless_room", lambda self, images: None)
    with pytest.raises(DataError, match=r"(disk is full|No space left on device)"):
        Cache("own", source, NAMES).make()
    read_only(tiny_disk)
    with pytest.raises(DataError, match=r"cannot be written: Read-only file system"):
        Cache("own", source, NAMES).make()


# From the data set


@pytest.mark.parametrize("dataset", registry.IN_FILES)
def test_missing_images_are_counted_and_listed_before_the_first_is_decoded(dataset, tmp_path, monkeypatch):
    root = miniatures.write(dataset, tmp_path / "data")
    victim = next(path for path in sorted(root.rglob("*")) if path.suffix in (".jpg", ".png"))
    victim.unlink()
    monkeypatch.setattr(image_cache.pixels, "decoded", lambda path: pytest.fail("decoded"))
    settings = DataSettings(dataset=dataset, root=str(root))
    for prepared in (data.prepare, data.load):
        with pytest.raises(DataError, match=rf"{dataset}: 1 of \d+ images are not in .*: .*{victim.name}$"):
            prepared(settings)


def test_labels_and_pictures_stay_together_whatever_is_listed_and_split(tmp_path):
    root = miniatures.write("coco2014", tmp_path / "data")
    for listed in ("all", "annotated"):
        task = data.load(DataSettings(dataset="coco2014", root=str(root), images=listed, image_size=512, mask_seed=0))
        for split in (task.train, task.val, task.test):
            for image, name in zip(split.images[:], split.names, strict=True):
                np.testing.assert_array_equal(image, decoded(root / name))
    assert len(list((tmp_path / "images").glob("coco2014-*"))) == 1
