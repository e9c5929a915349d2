"""Writes wait, in order, while the place they go to is away."""

from __future__ import annotations

import threading

import pytest

from sweeper.recording import outbox
from sweeper.recording.outbox import AwayError, Outbox


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_PAUSE", 0.001)


def away(error: Exception) -> bool:
    return isinstance(error, OSError)


def test_work_is_done_in_order_and_again_from_its_start_until_it_succeeds():
    done: list[str] = []
    said: list[str] = []
    box = Outbox("the place", away, said.append)

    def third() -> None:
        done.append("c")
        if done.count("c") < 4:
            raise OSError("nobody there\nand more")

    for work in (lambda: done.append("a"), lambda: done.append("b"), third, lambda: done.append("d")):
        box.put(work)
    box.flush()
    assert done == ["a", "b", "c", "c", "c", "c", "d"]
    assert said == ["the place is away (nobody there); results wait until it is back", "the place is back"]


def test_putting_does_not_wait_for_a_place_that_is_away():
    back, said, done = threading.Event(), threading.Event(), list[int]()
    box = Outbox("the place", away, lambda text: said.set())

    def first() -> None:
        if not back.is_set():
            raise OSError("nobody there")

    box.put(first)
    for number in range(100):
        box.put(lambda number=number: done.append(number))
    assert said.wait(60) and done == []
    back.set()
    box.flush()
    assert done == list(range(100))


def test_an_error_that_does_not_pass_is_raised_and_nothing_is_done_after_it():
    done: list[str] = []
    box = Outbox("the place", away, lambda text: None)

    def wrong() -> None:
        raise ValueError("no such run")

    box.put(wrong)
    with pytest.raises(ValueError, match="no such run"):
        box.flush()
    with pytest.raises(ValueError, match="no such run"):
        box.put(lambda: done.append("more"))
    assert done == []


def test_patience_ends_with_what_is_missing_and_what_to_do():
    def never() -> None:
        raise OSError("nobody there")

    box = Outbox("the place", away, lambda text: None)
    box.put(never)
    box.put(never)
    with pytest.raises(AwayError) as raised:
        box.flush(patience=0.05)
    assert str(raised.value) == (
        "the place is away (nobody there); 2 writes are not done, the same command completes them"
    )


def test_abandoned_work_is_not_waited_for():
    box = Outbox("the place", away, lambda text: None)
    going, on = threading.Event(), threading.Event()
    done: list[str] = []

    def first() -> None:
        going.set()
        on.wait(60)

    box.put(first)
    box.put(lambda: done.append("second"))
    assert going.wait(60)
    box.abandon()
    on.set()
    box.flush()
    assert done == []
