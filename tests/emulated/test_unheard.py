"""A box that nobody is heard from on: it stops itself, keeps its disk, is started again and brings its model home."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ports import InstanceStatus
from harness.ledger.events import Closed, InstanceStarted, Launched, Rented
from harness.ledger.settled import SwitchArmed, SwitchFired
from harness.providers.emulated import open_emulated
from tests.support.operator import Operator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")
QUIET = 'about = "Nothing happens."\nends = "closed"\n'
JOB = "workspace/vastai_llm_training"


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    quiet = tmp_path / "quiet.toml"
    quiet.write_text(QUIET, encoding="utf-8")
    made = Operator(tmp_path, quiet.as_posix(), changes=(("[limits]\n", "[limits]\nstop_unheard_s = 300\n"),))
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_box_stops_itself_at_night_and_the_model_comes_home_in_the_morning(operator: Operator) -> None:
    assert operator.run("--until", "launch") == 0
    (rented,) = (event for event in operator.events() if isinstance(event, Rented))
    provider = open_emulated(operator.service, SystemClock(), scenario=operator.scenario)
    box = operator.box(int(str(rented.instance_id)))
    kept = box / JOB / ".harness" / "switch" / "armed.json"
    armed = json.loads(kept.read_text())
    assert armed["after_s"] == 300
    shorter = kept.with_name("shorter")  # five minutes are too long for a test
    shorter.write_text(json.dumps({**armed, "after_s": 2.0}))
    shorter.rename(kept)

    deadline = time.monotonic() + 240
    while (shown := provider.instance(rented.instance_id)) is None or shown.status is not InstanceStatus.STOPPED:
        assert time.monotonic() < deadline, "it was not stopped"
        time.sleep(0.2)
    assert [one.id for one in provider.instances().instances] == [rented.instance_id]
    assert (box / JOB / ".harness" / "exit_status").read_text() == "0\n", "not before the training had ended"
    assert list((box / JOB / "models/output/final").glob("*.gguf")), "its disk is kept"

    assert operator.run() == 0
    events = operator.events()
    kinds = [type(event) for event in events]
    assert [kinds.count(kind) for kind in (Rented, Launched, SwitchArmed, SwitchFired, Closed)] == [1] * 5
    assert kinds.index(SwitchArmed) < kinds.index(Launched)
    assert kinds.index(InstanceStarted) < kinds.index(SwitchFired)
    assert "the box had stopped itself" in operator.said[-1].stdout + operator.said[-1].stderr
    told = "".join(one.stdout + one.stderr for one in operator.said)
    assert armed["key"] not in told
    files = [path for path in operator.directory.rglob("*") if path.is_file()]
    assert not [path for path in files if armed["key"].encode() in path.read_bytes()]
    world = operator.world()
    assert not world.scoped_keys, "its key is gone with it"
