from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from sweeper.store import MAGIC, DamagedRecordWarning, Store, sweep_away

KEY = "ab" + "0" * 62
OTHER = "cd" + "1" * 62


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def path_of(store: Store, key: str, record: str) -> Path:
    return store.folder / key[:2] / key / record


def test_what_is_written_comes_back_bit_for_bit(store):
    value = {"val/map": 0.1 + 0.2, "test/cr": math.nan, "train/loss": 5e-324}
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(7, dtype=torch.int8)}
    store.write_json(KEY, "metrics", value)
    store.write_tensors(KEY, "state", tensors)
    assert repr(store.read_json(KEY, "metrics")) == repr(value)
    read = store.read_tensors(KEY, "state")
    assert read is not None
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())
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
        "import os, sys; from pathlib import Path; from methods.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os._exit(9)\n"
    )
    path = path_of(store, KEY, "metrics")
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == 9
    assert not store.has(KEY, "metrics")
    assert list(store.records()) == []
    store.write_json(KEY, "metrics", 1)
    assert [record.name for record in store.records()] == ["metrics"]


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


def aged(store: Store, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path_of(store, key, "state"), (then, then))


def test_the_least_recently_used_go_first(store):
    keys = [f"{index:02d}" + "f" * 62 for index in range(4)]
    for age, key in enumerate(keys):
        store.write_tensors(key, "state", {"a": torch.zeros(100)})
        aged(store, key, 1000 + 100 * age)
    size = next(store.records()).size
    assert store.read_tensors(keys[3], "state") is not None  # the oldest was used just now
    assert sweep_away(store, max_bytes=2 * size) == (2, 2 * size)
    assert [key for key in keys if store.has(key, "state")] == [keys[0], keys[3]]


def test_what_is_old_or_not_needed_goes_and_the_rest_stays(store):
    for key in (KEY, OTHER):
        store.write_tensors(key, "state", {"a": torch.zeros(2)})
    aged(store, KEY, 5000)
    assert sweep_away(store)[0] == 0
    assert sweep_away(store, older_than=10_000)[0] == 0
    assert sweep_away(store, older_than=4000)[0] == 1
    assert not path_of(store, KEY, "state").parent.exists()
    assert sweep_away(store, needed=[OTHER])[0] == 0
    assert sweep_away(store, needed=[])[0] == 1
    assert list(store.records()) == []


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 64 KiB: what no permission bit can imitate for root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no file system could be mounted: {mounted.stderr.decode()}")
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


SPACE = """
data: {train_images: 32, val_images: 16, test_images: 16}
network: {pretrain_images: 64, pretrain_epochs: 1}
train: {epochs: 2}
variants: {Full label: {method: assume_negative}}
seeds: [1]
"""


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_store_that_cannot_be_written_is_reported_and_loses_no_result(trouble, tiny_disk, tmp_path):
    if trouble == "full":
        (tiny_disk / "filler").write_bytes(b"0" * 60_000)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    (tmp_path / "one.yaml").write_text(SPACE)
    environment = {**os.environ, "SWEEPER_STORE": str(tiny_disk)}
    command = [sys.executable, "-m", "sweeper", "run", "one.yaml", "--json"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["succeeded"] == 1
    assert "the store cannot be written" in run.stderr
    assert "Traceback" not in run.stderr
