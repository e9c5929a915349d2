"""What is kept in the store and for how long; a sweep whose store is full or cannot be written."""

from __future__ import annotations

import json
import os
import time

import pytest
import torch

from methods.cache.store import Store
from sweeper.cli import main
from sweeper.running.retention import ABANDONED_SECONDS, FRESH, LimitError, limit_bytes, sweep_away
from sweeper.spaces.reading import load_space, profiles_of
from tests.conftest import read_only
from tests.methods.test_store import path_of
from tests.sweeper.commands import command

KEY = "ab" + "0" * 62
OTHER = "cd" + "1" * 62


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def test_what_killed_writers_left_goes_when_no_writer_can_still_be_at_it(store):
    store.write_json(KEY, "metrics", 1)
    folder = path_of(store, KEY, "metrics").parent
    young, old = folder / ".state.01234567", folder / ".state.89abcdef"
    for leftover, age in ((young, 60), (old, 2 * ABANDONED_SECONDS)):
        leftover.write_bytes(b"half")
        os.utime(leftover, (time.time() - age,) * 2)
    assert sweep_away(store, older_than=10 * ABANDONED_SECONDS) == (0, 0)
    assert {path.name for path in folder.iterdir()} == {"metrics", young.name}


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


def test_gc_keeps_what_a_space_needs_in_any_of_its_profiles(tmp_path, monkeypatch, capsys):
    path = tmp_path / "space.yaml"
    path.write_text(
        "variants: {AN: {method: assume_negative}}\nseeds: [1]\nprofiles: {more: {train: {batch_size: 8}}, other: {}}\n"
    )
    monkeypatch.setenv("SWEEPER_STORE", str(tmp_path))
    assert profiles_of(path) == ["default", "more", "other"]
    keys = [load_space(path, profile).trials[0].config.keys()[1] for profile in ("default", "more")]
    store = Store(tmp_path)
    for key in (*keys, KEY):
        store.write_json(key, "metrics", 1)
    assert main(["gc", "--keep", str(path)]) == 0
    assert capsys.readouterr().out.startswith("1 records deleted")
    assert [store.has(key, "metrics") for key in (*keys, KEY)] == [True, True, False]


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
        read_only(tiny_disk)
    (tmp_path / "one.yaml").write_text(SPACE)
    run = command("run", "one.yaml", "--json", "--inline", cwd=tmp_path, SWEEPER_STORE=tiny_disk)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["succeeded"] == 1
    assert "the store cannot be written" in run.stderr
    assert "Traceback" not in run.stderr


def test_what_is_in_use_stays_whatever_the_limit(store):
    for key in (KEY, OTHER):
        store.write_tensors(key, "state", {"a": torch.zeros(100)})
    aged(store, KEY, 5000)
    assert sweep_away(store, max_bytes=1, in_use={KEY})[0] == 1
    assert store.has(KEY, "state")


def test_the_limit_is_100_gb_unless_the_environment_says_another_and_must_be_a_size(monkeypatch):
    monkeypatch.delenv("SWEEPER_STORE_LIMIT", raising=False)
    assert limit_bytes() == 100 * 10**9
    monkeypatch.setenv("SWEEPER_STORE_LIMIT", "0.5")
    assert limit_bytes() == 5 * 10**8
    for wrong in ("0", "-1", "much", "nan"):
        monkeypatch.setenv("SWEEPER_STORE_LIMIT", wrong)
        with pytest.raises(LimitError, match=f"SWEEPER_STORE_LIMIT: '{wrong}' is not allowed; allowed is a"):
            limit_bytes()


def test_what_a_killed_fresh_run_left_goes_when_it_cannot_still_be_running(store, tmp_path):
    young, old = tmp_path / f"{FRESH}a", tmp_path / f"{FRESH}b"
    for folder, age in ((young, 60), (old, 2 * ABANDONED_SECONDS)):
        (folder / "entries").mkdir(parents=True)
        os.utime(folder, (time.time() - age,) * 2)
    sweep_away(store)
    assert (young.exists(), old.exists()) == (True, False)
