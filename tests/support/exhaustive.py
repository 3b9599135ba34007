"""The exhaustive proof: a whole job is struck at one effect after another, and goes on each time.

As a program (``python -m tests.support.exhaustive``, or ``tox -e exhaustive``): every effect, every fault, every way to
lose what was not flushed, and then lives of a job as hypothesis draws them; prints what it counted. The tests strike a
part of them.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from harness.core.errors import HarnessError
from harness.core.ids import InstanceId
from harness.ledger.events import Rented
from harness.ledger.settled import StrategySettled
from harness.release import release as releases
from tests.support.any_life import AnyLife
from tests.support.context import Killed
from tests.support.fault_port import FaultPort, How
from tests.support.power import Loss, PowerDisk
from tests.support.scripted_world import MODEL, proving
from tests.support.whole_job import Desk, Metered, make_desk

LIVES, STEPS = 2000, 25
"""Size of the long mode's second half."""

Fault = tuple[How, Loss | None]
FAULTS: tuple[Fault, ...] = tuple((how, None) for how in How)
FAILURES: tuple[Fault, ...] = tuple((how, loss) for loss in Loss for how in (How.BEFORE, How.AFTER))


@dataclass(slots=True)
class Tally:
    """Counts of a proof."""

    points: set[tuple[int, How, Loss | None]] = field(default_factory=set)
    effects: int = 0
    commands: int = 0
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.effects} effects, {len(self.points)} points, {self.commands} commands, "
            f"{self.seconds:.0f} s, {len(self.broken)} broken"
        )


def guard_destroys(desk: Desk) -> None:
    """Have the market refuse, loudly, to destroy what is not safe at home."""

    def look(instance_id: InstanceId) -> None:
        history = desk.world.history
        assert history.destroy_intended, f"{instance_id} is destroyed without a recorded intent"
        assert history.verified is not None, f"{instance_id} is destroyed before anything was verified"
        assert _sha256(Path(history.verified.path)) == history.verified.sha256, f"{instance_id}: the file is not here"

    assert isinstance(desk.world.market, Metered)
    desk.world.market.before_destroy = look


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def spoil(desk: Desk) -> None:
    """Change one byte of the model at home, as long as its instance lives: what then is changed cannot be had again.

    Nor what is changed as the request leaves: nothing can be looked at between the last look and that.
    """
    if desk.port.names[-1] == "provider.destroy":
        return
    fetched = desk.world.history.fetched if desk.world.store.records(desk.world.job.name) else None
    if fetched is None or not desk.world.market.rented or not Path(fetched.path).is_file():
        return
    path = Path(fetched.path)
    path.chmod(0o644)
    path.write_bytes(b"?" + MODEL[1:])


def ended_well(desk: Desk, *, undone: bool = False, aside: bool = False) -> None:
    """Raise AssertionError unless the job is closed with all that it should have done, once, and nothing besides.

    ``undone``: a power failure may have brought back names that were deleted, which the next writer there sweeps;
    unfinished bytes never. ``aside``: a file that is not the artifact may have been put aside.
    """
    world, market = desk.world, desk.world.market
    assert isinstance(market, Metered)
    history = world.history
    assert history.closed
    assert not market.rented, "an orphan"
    assert market.created == 1, f"{market.created} instances were rented"
    assert market.most_at_once == 1
    assert world.box.attempts == 1, f"{world.box.attempts} trainings were paid for"
    assert world.kinds().count(Rented) == 1
    assert world.box.launched[0]["env"] == {"TRAINING_STRATEGY": "ddp"}, "launched by something else than was proven"
    assert world.kinds().count(StrategySettled) == 1
    assert world.store.verify(world.job.name) == ()
    assert history.verified is not None
    home = Path(history.verified.path)
    assert home.read_bytes() == MODEL
    assert history.release_path is not None
    assert releases.file_problem(releases.read(Path(history.release_path)), home) is None
    assert world.job.artifact.second_copy is not None
    assert (world.job.artifact.second_copy / home.name).read_bytes() == MODEL
    ends = (".part",) if undone else (".part", ".journal", ".lock")
    left = [path for path in world.home.rglob("*") if path.name.endswith(ends)]
    left += () if aside else world.home.rglob("*.rejected-*")
    left += () if undone else world.home.glob("jobs/*/held/*")
    assert not left, f"left behind: {[str(path.relative_to(world.home)) for path in left]}"
    assert history.destroyed is not None
    assert history.destroyed.billing is not None
    usd = history.destroyed.billing["looks"][-1]["usd"]
    assert usd == pytest.approx(market.charged(history.destroyed.instance_id)), "another cost was recorded than charged"


def _asked_for(port: FaultPort) -> bool:
    """True when the effect to come is the request itself: nobody can look at a file between a look and what follows."""
    return port.names[-1] == "provider.destroy"


def strike(folder: Path, at: int, how: How, loss: Loss | None, tally: Tally) -> bool:
    """Strike one job at one effect, and see it through; False when it has no such effect."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        desk = make_desk(folder, patch, training={"strategy": "ddp"})
        desk.world.box.on_prove = proving(desk.world.box)
        guard_destroys(desk)
        disk = PowerDisk(desk.world.home) if loss is not None else None
        desk.port = FaultPort(at, how)
        if how is How.SPOILT:
            desk.port.between = lambda number: spoil(desk) if number == at and not _asked_for(desk.port) else None
        if disk is not None:
            stack.callback(disk.close)
            desk.port.synced = disk.synced
        try:
            desk.run()
        except Killed:
            pass
        except (HarnessError, OSError):
            assert how in {How.LOST, How.REFUSED, How.SPOILT}, "an error without a fault"
        tally.commands += 1
        port = desk.port
        if not port.struck:
            tally.effects = len(port.names)
            ended_well(desk)
            return False
        where = f"{at} ({port.names[at - 1]}), {how}" + (f", {loss}" if loss is not None else "")
        try:
            if disk is not None and loss is not None:
                disk.fail(loss, seed=at)
            desk.go_on()
            ended_well(desk, undone=loss is not None, aside=how is How.SPOILT)
        except AssertionError as error:
            line = traceback.extract_tb(error.__traceback__)[-1].line
            tally.broken.append(f"{where}: {str(error) or line}")
        except Exception as error:
            error.add_note(where)
            raise
        tally.commands += len(desk.typed) - 1
        tally.points.add((at, how, loss))
    return True


def prove(scratch: Path, faults: Sequence[Fault], *, first: int = 1, stride: int = 1) -> Tally:
    """Strike every ``stride``-th effect from the ``first`` on, until there is none; the faults take turns.

    One fault and a stride of 1 is every effect.
    """
    tally, began = Tally(), time.perf_counter()
    for turn, at in enumerate(itertools.count(first, stride)):
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            if not strike(Path(folder), at, *faults[turn % len(faults)], tally):
                break
    tally.seconds = time.perf_counter() - began
    return tally


def main() -> None:
    """Strike every effect with every fault, then live many lives."""
    patch_syncs()
    sound = True
    for how, loss in (*FAULTS, *FAILURES):
        with tempfile.TemporaryDirectory() as scratch:
            tally = prove(Path(scratch), [(how, loss)])
        lines = [f"{how}{f', power off: {loss}' if loss else ''}: {tally}", *tally.broken]
        sys.stdout.write("\n".join([*lines, ""]))
        sys.stdout.flush()
        sound = sound and not tally.broken
    began = time.perf_counter()
    lives(LIVES, steps=STEPS)
    sys.stdout.write(f"{LIVES} lives of up to {STEPS} steps: {time.perf_counter() - began:.0f} s\n")
    sys.exit(not sound)


def lives(count: int, *, steps: int) -> None:
    """Live so many lives of a job; raises for the first in which something does not hold."""
    told = settings(
        max_examples=count, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(AnyLife, settings=told)


def patch_syncs() -> None:
    """Outside of pytest: no power fails but the simulated one."""
    for name in ("fsync", "fdatasync"):
        setattr(os, name, lambda _: None)


if __name__ == "__main__":
    main()
