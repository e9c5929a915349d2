"""One driver per sweep: a living one is left alone, a dead one's lease is taken over."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys

import pytest

from sweeper.recording import lease
from sweeper.recording.lease import HEARTBEAT_SECONDS, LEASE_SECONDS, Lease, TakenError, wait_for


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while somebody sleeps."""

    class Clock:
        now = 1e9

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(lease, "time", clock)
    return clock


def elsewhere(renewed: float) -> Lease:
    return Lease("elsewhere 1 2", "4711:1", renewed)


def test_a_lease_is_read_as_it_was_written_and_nothing_else_is_one():
    mine = Lease.mine()
    assert Lease.read(mine.text()) == mine
    for text in (None, "", "{}", "[1]", '{"host": "a"}', "alive"):
        assert Lease.read(text) is None


def test_this_process_is_alive_and_the_same_driver_and_never_waits_for_itself():
    mine = Lease.mine()
    assert mine.here() and mine.running() and Lease.mine().same_driver(mine)
    wait_for(lambda: mine, pytest.fail)


def test_a_driver_that_was_killed_on_this_machine_is_dead_at_once_whether_or_not_its_parent_has_noticed():
    script = (
        "import time; from sweeper.recording.lease import Lease; print(Lease.mine().text(), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    its = Lease.read(process.stdout.readline())
    assert its is not None and its.here() and its.running() and not its.same_driver(Lease.mine())
    with pytest.raises(TakenError, match=rf"process {process.pid} on .* is running this sweep; it is left alone"):
        wait_for(lambda: its, pytest.fail)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still in the table of processes
    assert not its.running()
    process.wait()
    assert not its.running()
    wait_for(lambda: its, pytest.fail)


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it():
    mine = Lease.mine()
    assert not dataclasses.replace(mine, process=f"{os.getpid()}:1").running()


@pytest.mark.parametrize("apart", [-1e7, 0.0, 1e7])
def test_a_driver_elsewhere_is_dead_when_it_renews_no_more_whatever_its_clock_says(clock, apart):
    said: list[str] = []
    before = clock.now
    wait_for(lambda: elsewhere(before + apart), said.append)
    assert LEASE_SECONDS <= clock.now - before < LEASE_SECONDS + HEARTBEAT_SECONDS
    assert said == ["waiting 60 s for a sign of life of process 4711 on elsewhere, which ran this sweep last"]


@pytest.mark.parametrize("apart", [-1e7, 0.0, 1e7])
def test_a_driver_elsewhere_that_renews_its_lease_is_alive_whatever_its_clock_says(clock, apart):
    before = clock.now

    def read() -> Lease:
        return elsewhere(before + apart + HEARTBEAT_SECONDS * ((clock.now - before) // HEARTBEAT_SECONDS))

    with pytest.raises(TakenError, match="on elsewhere is running this sweep"):
        wait_for(read, lambda text: None)
    assert clock.now < before + LEASE_SECONDS


def test_a_lease_given_back_is_nobodys(clock):
    answers = iter([elsewhere(clock.now), elsewhere(clock.now), None])
    wait_for(lambda: next(answers), lambda text: None)
