"""A store gives back what was written, bit for bit, or nothing: whatever is damaged, killed, full or deleted."""

from __future__ import annotations

import io
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from methods.cache.store import MAGIC, DamagedRecordWarning, Store
from tests.conftest import read_only

KEY = "ab" + "0" * 62
OTHER = "cd" + "1" * 62


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def path_of(store: Store, key: str, record: str) -> Path:
    return store.folder / key[:2] / key / record


def bits(value):
    """A nest of tensors as what can be compared: NaN is NaN, and 0.0 is not -0.0."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.shape, value.reshape(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return {name: bits(one) for name, one in value.items()}
    return [bits(one) for one in value] if isinstance(value, list) else value


def test_what_is_written_comes_back_bit_for_bit(store):
    value = {"val/map": 0.1 + 0.2, "test/cr": math.nan, "train/loss": 5e-324}
    tensors = {
        "a": torch.tensor([[0.1, -0.0], [math.nan, 5e-324]], dtype=torch.float64),
        "b": torch.tensor(7, dtype=torch.int8),
        "c": torch.arange(6).reshape(2, 3).T.bfloat16(),
        "optimizer": {"step": 3, "moments": [torch.zeros(0), torch.tensor([True])]},
    }
    store.write_json(KEY, "metrics", value)
    store.write_tensors(KEY, "state", tensors)
    assert repr(store.read_json(KEY, "metrics")) == repr(value)
    assert bits(store.read_tensors(KEY, "state")) == bits(tensors)
    assert store.read_json(OTHER, "metrics") is None
    assert not store.has(OTHER, "metrics")


def test_a_flipped_byte_anywhere_is_noticed_and_the_record_taken_away(store):
    store.write_json(KEY, "metrics", [1, 2])
    path = path_of(store, KEY, "metrics")
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.warns(DamagedRecordWarning, match="is damaged; it is computed again"):
            assert store.read_json(KEY, "metrics") is None
        assert not path.exists()
    store.write_json(KEY, "metrics", [1, 2])
    assert store.read_json(KEY, "metrics") == [1, 2]


def test_a_flipped_bit_in_a_state_is_noticed(store):
    def write() -> None:
        store.write_tensors(KEY, "state", {"a": torch.arange(4000.0)})

    write()
    path = path_of(store, KEY, "state")
    sound = path.read_bytes()
    for place in [*range(0, len(sound), len(sound) // 40), len(sound) - 1]:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 128]) + sound[place + 1 :])
        with pytest.warns(DamagedRecordWarning):
            assert store.read_tensors(KEY, "state") is None
        assert not path.exists()
    write()
    assert bits(store.read_tensors(KEY, "state")) == bits({"a": torch.arange(4000.0)})


def test_a_record_cut_anywhere_is_noticed(store):
    store.write_json(KEY, "metrics", [1, 2])
    path = path_of(store, KEY, "metrics")
    sound = path.read_bytes()
    for length in range(len(sound)):
        path.write_bytes(sound[:length])
        with pytest.warns(DamagedRecordWarning):
            assert store.read_json(KEY, "metrics") is None


def test_no_code_in_a_record_is_run(store, tmp_path):
    import hashlib
    import pickle

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-run"),)

    buffer = io.BytesIO()
    torch.save({"a": Code()}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Code())):
        path = path_of(store, KEY, "state")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%s %s %d\n" % (MAGIC, hashlib.sha256(content).hexdigest().encode(), len(content)) + content)
        with pytest.warns(DamagedRecordWarning):
            assert store.read_tensors(KEY, "state") is None
    assert not (tmp_path / "was-run").exists()


def test_a_kill_while_writing_leaves_no_record(store, tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from methods.cache.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os._exit(9)\n"
    )
    path = path_of(store, KEY, "metrics")
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == 9
    assert not store.has(KEY, "metrics")
    assert list(store.records()) == []
    store.write_json(KEY, "metrics", 1)
    assert [record.name for record in store.records()] == ["metrics"]


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_kill_before_the_rename_leaves_the_record_that_was_there(store, tmp_path, operation):
    script = (
        "import os, sys; from pathlib import Path; from methods.cache.store import Store\n"
        f"os.{operation} = lambda *_: os._exit(9)\n"
        "Store(Path(sys.argv[1])).write_json(sys.argv[2], 'metrics', 'new')\n"
    )
    store.write_json(KEY, "metrics", "old")
    for key in (KEY, OTHER):
        assert subprocess.run([sys.executable, "-c", script, str(tmp_path), key]).returncode == 9
    assert store.read_json(KEY, "metrics") == "old"
    assert store.read_json(OTHER, "metrics") is None
    assert [record.key for record in store.records()] == [KEY]
    assert len(list(store.leftovers())) == 2


def test_a_failed_write_leaves_what_was_there(store, monkeypatch):
    store.write_json(KEY, "metrics", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        store.write_json(KEY, "metrics", 2)
    monkeypatch.undo()
    assert store.read_json(KEY, "metrics") == 1
    assert len(list(path_of(store, KEY, "metrics").parent.iterdir())) == 1


def _write(folder: str) -> None:
    for _ in range(50):
        Store(Path(folder)).write_json(KEY, "metrics", list(range(1000)))


def test_several_writers_of_one_record_leave_one_sound_record(store, tmp_path):
    with ProcessPoolExecutor(2) as pool:
        writers = [pool.submit(_write, str(tmp_path)) for _ in range(2)]
        while not all(writer.done() for writer in writers):
            assert store.read_json(KEY, "metrics") in (None, list(range(1000)))
        for writer in writers:
            writer.result()
    assert store.read_json(KEY, "metrics") == list(range(1000))
    assert len(list(store.records())) == 1


def test_records_that_vanish_while_they_are_listed_are_left_out(store):
    assert list(store.records()) == []  # there is no folder yet
    keys = [f"{shard}{key}" + "f" * 61 for shard in ("00", "11", "22") for key in "abc"]
    for key in keys:
        store.write_json(key, "metrics", 1)
        store.write_json(key, "state", 2)
    records = store.records()
    first = next(records)
    for key in keys:
        if key != first.key:
            shutil.rmtree(path_of(store, key, "state").parent)
    assert {record.key for record in records} == {first.key}
    records = store.records()
    first = next(records)
    shutil.rmtree(store.folder)
    assert list(records) == []


def test_a_full_disk_raises_and_leaves_no_half_record(tiny_disk):
    store = Store(tiny_disk)
    store.write_json(KEY, "metrics", [1, 2])
    with pytest.raises(OSError, match="No space left on device"):
        store.write_tensors(KEY, "state", {"a": torch.zeros(100_000)})
    assert [(record.key, record.name) for record in store.records()] == [(KEY, "metrics")]
    assert list(store.leftovers()) == []
    assert store.read_json(KEY, "metrics") == [1, 2]
    store.write_tensors(KEY, "state", {"a": torch.zeros(100)})  # there is space for this


def test_a_read_only_store_is_read_and_what_is_damaged_in_it_is_not_trusted(tiny_disk):
    store = Store(tiny_disk)
    store.write_json(KEY, "metrics", [1, 2])
    store.write_json(OTHER, "metrics", [1, 2])
    path_of(store, OTHER, "metrics").write_bytes(b"")
    read_only(tiny_disk)
    with pytest.raises(OSError, match="Read-only file system"):
        store.write_json(KEY, "metrics", [3])
    assert store.read_json(KEY, "metrics") == [1, 2]
    with pytest.warns(DamagedRecordWarning):
        assert store.read_json(OTHER, "metrics") is None


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_what_is_made_once_is_made_all_the_same_where_it_cannot_be_kept(trouble, tiny_disk):
    if trouble == "read-only":
        read_only(tiny_disk)
    made = {"weights": torch.arange(100_000)}
    with pytest.warns(UserWarning, match="cannot be written .*; pretrained not kept"):
        assert bits(Store(tiny_disk).made_once(KEY, "pretrained", lambda: made)) == bits(made)
    assert [path for path in tiny_disk.rglob("*") if path.is_file()] == []
