"""Paid seconds of a whole job over lines of stated rates: one thing after another, and side by side.

    python -m benchmarks.bench_paid_minutes
    python -m benchmarks.bench_paid_minutes --home-mbps 400 --train-s 300

The runner drives a job of the 7B through all of its stages, over a scripted provider and box. Only time is played: a
clock moves on as long as the bytes of each part take at these rates. The rival is the same runner with one thing after
another: upload, pip, the base model; after the export the adapter, then the model. Seconds are those of the report, by
the events of each job's own log, and in sum all that was paid.

Bar: what is paid beside the training, the export and the model's own bytes takes 0.8 of the seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.table import Row

try:
    import pytest
except ModuleNotFoundError as error:
    table.absent(error)

from harness.core.lifecycle import Stage
from harness.core.ports import RemoteFile, RunResult
from harness.ledger import billing, paid_parts
from harness.ledger.events import ArtifactRecorded, Fetched, GateJudged, Launched, Rented
from harness.ledger.kinds import JobEvent
from harness.runner import ahead
from harness.runner.checkpoint_mirror import Mirroring
from tests.support.checkpoint_files import write_checkpoint
from tests.support.context import World, make_world
from tests.support.scripted_world import MODEL, Box, BoxHost

BAR = 0.8
GB, MBIT = 1e9, 1e6 / 8
PIP, BASE, PACKAGE = 2.5 * GB, 15.2 * GB, 0.03 * GB
MODEL_BYTES, ADAPTER_BYTES = 8.1 * GB, 0.646 * GB
_WORK = {"training: sft", "training: dpo", paid_parts.EXPORT, "download"}
_ADAPTER = "models/output/adapter/adapter_model.safetensors"


@dataclass(slots=True)
class Play:
    """Rates in bytes a second, and seconds of what needs no line."""

    box_line: float
    home_line: float
    home_up: float
    train_s: float
    boot_s: float = 60.0
    unpack_s: float = 40.0
    """Of an installation, beside its download."""
    again_s: float = 3.0
    """Of an installation that finds everything there."""
    ready_s: float = 30.0
    load_s: float = 45.0
    export_s: float = 60.0
    hash_s: float = 6.0
    judge_s: float = 12.0
    """Of the gate of the file that came home."""

    def beside_each_other(self) -> dict[str, float]:
        """Seconds of pip and of the base model while both share the box's line."""
        pip = 2 * min(PIP, BASE) / self.box_line + self.unpack_s
        return {ahead.INSTALL: pip, ahead.BASE: (PIP + BASE) / self.box_line}


@dataclass(slots=True)
class _Course:
    """The training's course by the clock: two trainers, then the export."""

    world: World
    play: Play
    began: float = -1.0
    exports_at: float = -1.0
    said: list[str] = field(default_factory=list)

    def look(self, box: Box) -> dict[str, Any]:
        passed = box.clock.monotonic() - self.began
        for stage, steps, share in (("sft", 330, 0.75), ("dpo", 80, 1.0)):
            if box.alive and passed >= share * self.play.train_s and stage not in self.said:
                self.said.append(stage)
                write_checkpoint(box.root / "models/output" / stage, steps)
                box.say(f"[{stage}] step {steps}/{steps} (100%) loss=0.5 lr=0.0001 s/step=1.0")
                box.say(f"[{stage}] COMPLETE {steps}/{steps} steps")
                self.exports_at = self.began + self.play.train_s
        if box.alive and passed >= self.play.train_s + self.play.export_s:
            adapter = box.root / "models/output/dpo/checkpoint-80/adapter_model.safetensors"
            box.leaves = {_ADAPTER: adapter.read_bytes(), box.artifact.relative_to(box.root).as_posix(): MODEL}
            box.ended_s = passed - self.play.train_s - self.play.export_s
            box.finish()
        return box.state()


def paid(folder: Path, play: Play, *, overlapped: bool) -> Mapping[str, float]:
    """Paid seconds by part, of one whole job."""
    with pytest.MonkeyPatch.context() as bent:
        world = make_world(folder, bent, fast=True)
        if not overlapped:
            bent.setattr(ahead, "begin", lambda *_: None)
            bent.setattr(Mirroring, "go_on", lambda *_: None)
        drive(world, bent, play)
        spans = billing.paid_spans(world.history.records, world.clock.now())
        return {one.name: one.seconds for one in paid_parts.parts(world.history.records, spans)}


def drive(world: World, bent: pytest.MonkeyPatch, play: Play) -> None:
    """Live a world's job from its first event to its last."""
    course = _Course(world, play)
    _play_lines(bent, world, play, course)
    world.run(on_record=_seconds_of(world, play, course))


def _play_lines(bent: pytest.MonkeyPatch, world: World, play: Play, course: _Course) -> None:
    """Every transfer and command takes as long as its bytes."""
    send, fetch, mirror, run = BoxHost.send, BoxHost.fetch, BoxHost.mirror, BoxHost.run
    clock, box = world.clock, world.box
    box.ahead_s = play.beside_each_other()

    def sends(self: BoxHost, *args: Any, **named: Any) -> None:
        box.transfer_s = PACKAGE / play.home_up
        send(self, *args, **named)

    def fetches(self: BoxHost, remote: RemoteFile, *args: Any) -> None:
        whole = {box.artifact.name: MODEL_BYTES, Path(_ADAPTER).name: ADAPTER_BYTES}
        box.transfer_s = whole.get(Path(remote.path).name, 0.0) / play.home_line
        fetch(self, remote, *args)

    def mirrors(
        self: BoxHost, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        at = course.exports_at + ADAPTER_BYTES / play.home_line if destination.parent.name == "dpo" else 0.0
        while clock.monotonic() < at and not cancelled():
            threading.Event().wait(0.001)
        mirror(self, files, destination, lambda: clock.monotonic() < at)

    def runs(self: BoxHost, argv: Any, **named: Any) -> RunResult:
        done = box.ahead.get(ahead.INSTALL, clock.monotonic() + 1) <= clock.monotonic()
        alone = {"pip": PIP / play.box_line + play.unpack_s, "--fetch-only": BASE / play.box_line}
        took = next((seconds for word, seconds in alone.items() if word in argv), 0.0)
        box.command_s = play.again_s if "pip" in argv and done else took
        try:
            return run(self, argv, **named)
        finally:
            box.command_s = 0.0

    def looks(self: Box) -> dict[str, Any]:
        return course.look(self)

    bent.setattr(Box, "look", looks)
    for name, played in (("send", sends), ("fetch", fetches), ("mirror", mirrors), ("run", runs)):
        bent.setattr(BoxHost, name, played)


def _seconds_of(world: World, play: Play, course: _Course) -> Callable[[JobEvent, bool], None]:
    """Time that passes before (False) or after (True) an event."""

    def passes(event: JobEvent, done: bool) -> None:
        match event, done:
            case Rented(), True:
                world.clock.turn(play.boot_s)
            case GateJudged(stage=Stage.INSTALL), False:
                world.clock.turn(play.ready_s)
            case Launched(), True:
                world.clock.turn(play.load_s)
                course.began = world.clock.monotonic()
            case ArtifactRecorded(), False:
                world.clock.turn(play.hash_s)
            case Fetched(), True:
                world.clock.turn(play.judge_s)
            case _:
                pass

    return passes


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Seconds of each part, and of all of them."""
    play = Play(options.box_mbps * MBIT, options.home_mbps * MBIT, options.home_up_mbps * MBIT, options.train_s)
    with tempfile.TemporaryDirectory(prefix="bench-paid-") as name:
        ours, serial = (paid(Path(name, str(way)), play, overlapped=way) for way in (True, False))
    for part in {**serial, **ours}:
        yield Row(part, "one after another", ours.get(part, 0.0), serial.get(part, 0.0))
    around, before = (sum(took for part, took in told.items() if part not in _WORK) for told in (ours, serial))
    yield Row("all but training, export and the model's bytes", "one after another", around, before, BAR)
    yield Row("all that is paid", "one after another", sum(ours.values()), sum(serial.values()))


if __name__ == "__main__":
    parser = table.parser(__doc__)
    parser.add_argument("--box-mbps", type=float, default=1000.0, help="line of the box (Mbit/s)")
    parser.add_argument("--home-mbps", type=float, default=100.0, help="line to this machine (Mbit/s)")
    parser.add_argument("--home-up-mbps", type=float, default=20.0, help="line from this machine (Mbit/s)")
    parser.add_argument("--train-s", type=float, default=600.0, help="seconds of both trainers")
    table.run(parser.parse_args(), rows)
