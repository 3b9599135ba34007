"""The picture of a running job, and looks at a scripted box: it is cut, it comes back, and nothing there is changed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.cli.monitor import _Following, _frame
from harness.cli.picture import Look, headline, picture
from harness.cli.watching import Watcher
from harness.core.answers import BoxCheckpoint, Disk, Gpu, Gpus
from harness.core.errors import StoreFailed
from harness.core.lifecycle import Stage
from harness.core.observed import seen, unseen
from harness.facts.mirror import Mirrored
from harness.facts.training import TrainingFacts
from harness.ledger.events import InstanceStopped
from harness.log import summary
from tests.support.context import World, make_world
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import INSTANCE, Log, job
from tests.unit.cli.test_status_lines import HELD, TRAINED, training

STEP = "[sft] step {0}/330 (1%) loss={1} lr=0.0001 s/step=4.0\n"
UNSEEN: dict[str, Any] = dict.fromkeys(("log", "gpus", "last_lines", "mirror", "log_age_s"), unseen("?")) | {
    "checkpoints": {"sft": unseen("?")}
}
EVIL = "\x1b[2J\x1b]0;x\x07evil\r\nsecond\x00 " + "w" * 500


def facts(text: str = TRAINED, **changes: Any) -> TrainingFacts:
    """A look in which everything was seen."""
    whole = BoxCheckpoint("sft/checkpoint-100", 100, 0.0, {"adapter_model.safetensors": 5}, "seal", (), (), ())
    told: dict[str, Any] = {
        "session": unseen("not asked"),
        "log": seen(summary.read(text.encode(), job().data.proof)),
        "log_age_s": seen(4.0),
        "last_lines": seen(("one", EVIL)),
        "checkpoints": {
            "sft": seen((whole,)),
            "dpo": seen((BoxCheckpoint("x", 10, 0.0, {}, "seal", ("torn",), (), ()),)),
        },
        "mirror": seen((Mirrored("sft", 100, 5),)),
        "gpus": seen(Gpus(True, tuple(Gpu(n, "H100 SXM", "1", 81_559.0, 70_000.0 + n, 90.0 + n) for n in range(8)))),
        "disk": seen(Disk(150_000_000_000, 60_000_000_000, 90_000_000_000)),
        "since_launch_s": 600.0,
        "spent_usd": 4.0,
        **changes,
    }
    return TrainingFacts(**told)


def shown(look: Look, width: int = 100, **more: Any) -> list[str]:
    return [*picture(look, (look.seen_at or 0.0) + 3.0, width=width, **more)]


def test_the_picture_tells_everything(tmp_path: Path) -> None:
    log = training(tmp_path).add(HELD)
    told = "\n".join(shown(Look(log.history, facts(), log.at), width=300))
    for words in (
        "night  training 5/9  seen 3.0 s ago",
        "step 120/410, 29%, 21 min 57 s left",
        "1.25 (sft)",
        "learning rate 0.0001",
        "checkpoints sft 100, dpo 10 (not whole)",
        "mirrored sft 100",
        "8x H100 SXM, 90-97 % busy, 73.4 of 85.5 GB each",
        "60.00 GB of 150.00 GB used",
        "spent, $",
        f"instance {INSTANCE} bills $16.00/h",
        "held     at least one check failed",
        "next     harness run night",
        "grew 4.0 s before that look",
        "evil\N{REPLACEMENT CHARACTER} second",
    ):
        assert words in told, words


@pytest.mark.parametrize("width", [20, 40, 60, 120])
@pytest.mark.parametrize("unicode", [True, False])
def test_the_picture_is_never_wider_than_the_terminal_and_obeys_nobody(
    tmp_path: Path, width: int, unicode: bool
) -> None:
    log = training(tmp_path).add(HELD)
    text = TRAINED + "".join(STEP.format(n, 2 - n / 330) for n in range(121, 330))
    look = Look(log.history, facts(text), log.at, "the box does not answer \x1b[31m" + "because " * 30)
    lines = shown(look, width, unicode=unicode)
    assert all(len(line) <= width for line in lines)
    assert all(character.isprintable() for line in lines for character in line)


@pytest.mark.parametrize(
    "of",
    [
        Look(Log().history),
        Look(Log().rented().history),
        Look(Log().closed().history),
        Look(Log().rented().history, facts("nothing yet\n"), 5.0),
        Look(Log().rented().history, facts(TRAINED.replace("1.25", "nan")), 5.0),
        Look(
            Log().rented().history,
            facts(**UNSEEN),
            5.0,
        ),
        Look(Log().rented().history, facts(gpus=seen(Gpus(False, ()))), 5.0),
        Look(Log().rented().history, facts(gpus=seen(Gpus(True, (Gpu(0, "x", ""),)))), 5.0),
    ],
)
def test_what_is_not_known_is_left_out(of: Look) -> None:
    lines = shown(of)
    assert lines[0].startswith("night  ")
    assert not any("None" in line for line in lines)
    assert "None" not in headline(of, 10.0)


def test_the_headline_is_one_line_with_the_age_of_what_was_seen(tmp_path: Path) -> None:
    log = training(tmp_path)
    line = headline(Look(log.history, facts(), log.at, "cut\noff"), log.at + 65)
    assert line.startswith("training 5/9  step 120/410, 29%, 20 min 55 s left  sft loss 1.25")
    assert line.endswith("not seen for 1 min 05 s: cut off")
    assert "\n" not in line


@pytest.mark.parametrize(("columns", "rows"), [(60, 24), (120, 40), (40, 10), (60, 5)])
def test_a_frame_fits_the_terminal_whatever_was_seen(tmp_path: Path, columns: int, rows: int) -> None:
    log = training(tmp_path).add(HELD)
    clock = FakeClock(log.at)
    following = _Following(Watcher(_Fixed(log, None)), clock, 5.0)
    console = Console(width=columns, force_terminal=True)
    assert _frame(console, following, rows) == ["looking ..."]
    following.latest = Look(log.history, facts(), log.at, "cut off")
    following._asked_at = clock.monotonic() + 1e-9
    clock.turn(30)
    lines = _frame(console, following, rows)
    assert len(lines) < rows
    assert all(len(line) <= columns - 3 for line in lines)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job in mid-training, as a run that was killed leaves it."""
    made = make_world(tmp_path, monkeypatch)
    made.box.takes = 10_000
    made.run(until=Stage.LAUNCH)
    return made


def _of(world: World) -> tuple[Any, ...]:
    files = {path: path.read_bytes() for path in sorted(world.home.rglob("*")) if path.is_file()}
    there = {path: path.read_bytes() for path in sorted(world.box.root.rglob("*")) if path.is_file()}
    return files, there, dict(world.market.rented)


def test_a_look_beside_a_run_takes_no_lock_and_changes_nothing(world: World) -> None:
    watcher = Watcher(world.context())
    with world.store.lock(world.job.name):
        before = _of(world)
        look = watcher.look()
        assert _of(world) == before
    assert look.problem is None
    assert look.facts is not None
    assert any("step 1/410" in line for line in shown(look))


def test_a_cut_keeps_the_last_picture_and_says_so_until_the_box_answers(world: World) -> None:
    watcher = Watcher(world.context())
    first = watcher.look()
    reachable = True
    world.box.reachable = lambda: reachable
    reachable = False
    world.clock.turn(40)
    cut = watcher.look()
    assert (cut.problem, cut.facts, cut.seen_at) == ("the box does not answer", first.facts, first.seen_at)
    assert any("the box does not answer; trying again" in line for line in shown(cut))
    reachable = True
    world.box.say(STEP.format(2, 2.4).strip())
    back = watcher.look()
    assert back.problem is None
    assert back.seen_at == world.clock.now()
    assert any("step 2/410" in line for line in shown(back))


def test_a_store_that_cannot_be_read_for_a_while_is_a_cut_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    context = world.context()
    watcher = Watcher(context)
    before = watcher.look()

    def fails(_: object) -> None:
        raise StoreFailed("the disk is away")

    monkeypatch.setattr(type(context), "read_anew", fails)
    look = watcher.look()
    assert (look.problem, look.facts) == ("the disk is away", before.facts)
    with pytest.raises(StoreFailed):
        Watcher(context).look()


def test_a_stopped_instance_is_not_asked(world: World) -> None:
    world.context().record(InstanceStopped(world.history.rental.instance_id if world.history.rental else INSTANCE, "x"))
    world.box.reachable = lambda: pytest.fail("the box was asked")
    look = Watcher(world.context()).look()
    assert look.problem is None
    assert any("is stopped, its disk bills" in line for line in shown(look))


def test_before_the_first_look_what_was_recorded_stands_with_its_age(tmp_path: Path, world: World) -> None:
    log = training(tmp_path)
    world.box.reachable = lambda: False
    recorded = Watcher(_Fixed(log, world)).look()
    assert recorded.problem is not None
    assert recorded.seen_at is not None
    assert recorded.seen_at < log.at
    assert math.isclose(sum("step 120/410" in line for line in shown(recorded)), 1)


class _Fixed:
    """A context whose history is another's."""

    def __init__(self, log: Log, world: World | None) -> None:
        self.history, self.job = log.history, log.job
        if world is not None:
            self.clock, self._host, self.directory = world.clock, world.context().host(), world.home

    def host(self) -> Any:
        return self._host

    def read_anew(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)
