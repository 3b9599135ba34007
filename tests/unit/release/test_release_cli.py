"""``harness release`` with a real store and file: 0 for a valid statement, 5 for a void one, 2 for what is none."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from harness.cli.release import app
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, Refused
from harness.core.ids import JobName, Sha256
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.ledger.events import Released
from harness.ledger.history import fold
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from harness.release import release as releases
from tests.support.job_histories import INSTANCE, Log, check, events_of, gate, job, judged

_MODEL = b"GGUF" * 4096
_NAME = JobName("night")


@dataclass(frozen=True, slots=True)
class _World:
    """A job with a verified file and a recorded release, on this disk."""

    home: Path
    model: Path
    statement: Path

    def ask(self, *words: str) -> Result:
        return CliRunner().invoke(app, [*words])

    def append(self, event: JobEvent) -> None:
        open_store(self.home / "state.db", SystemClock()).append(_NAME, event)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> _World:
    """Every event waits for the disk: one store is made for all tests, each works on a copy."""
    folder = tmp_path_factory.mktemp("template")
    made = _World(folder / "home", folder / "model.gguf", folder / "release.json")
    made.home.mkdir()
    store = open_store(made.home / "state.db", SystemClock())
    log = Log().verified(path=str(made.model), size=len(_MODEL), sha256=Sha256(hashlib.sha256(_MODEL).hexdigest()))
    for event in events_of(log.records):
        store.append(_NAME, event)
    history = fold(store.records(_NAME))
    data = releases.to_json(releases.statement(history, "vast", SystemClock().now()))
    made.statement.write_bytes(data)
    store.append(_NAME, Released(path=str(made.statement), sha256=hashlib.sha256(data).hexdigest()))
    return made


@pytest.fixture
def world(template: _World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _World:
    template.model.write_bytes(_MODEL)
    made = _World(tmp_path / "home", template.model, tmp_path / "release.json")
    shutil.copytree(template.home, made.home)
    shutil.copyfile(template.statement, made.statement)
    monkeypatch.setenv("HARNESS_HOME", str(made.home))
    return made


def _refused(result: Result) -> str:
    assert isinstance(result.exception, Refused)
    assert result.exception.exit_code == 5
    return str(result.exception)


def test_a_valid_release_is_called_valid(world: _World) -> None:
    result = world.ask("check", "--log", str(world.statement))
    assert result.exit_code == 0, result.exception
    assert f"instance {INSTANCE} is released" in result.output


def test_one_flipped_byte_of_the_file_is_seen(world: _World) -> None:
    world.model.write_bytes(b"g" + _MODEL[1:])
    assert "has the SHA-256" in _refused(world.ask("check", "--log", str(world.statement)))


def test_a_missing_file_is_seen(world: _World) -> None:
    world.model.unlink()
    assert "does not exist" in _refused(world.ask("check", "--log", str(world.statement)))


def test_another_copy_may_be_checked(world: _World, tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(_MODEL)
    assert world.ask("check", "--log", str(world.statement), "--artifact", str(copy)).exit_code == 0
    copy.write_bytes(_MODEL + b"x")
    assert "copy.gguf has" in _refused(world.ask("check", "--log", str(world.statement), "--artifact", str(copy)))


def test_a_gate_that_was_shut_since_is_seen(world: _World) -> None:
    bad = check(Stage.POSTDOWNLOAD, "local_file_exists", Verdict.FAIL)
    world.append(judged(gate(Stage.POSTDOWNLOAD, job(), bad)))
    assert "gate postdownload is not open" in _refused(world.ask("check", "--log", str(world.statement)))


def test_an_edited_statement_is_seen(world: _World) -> None:
    told = json.loads(world.statement.read_bytes())
    told["predicate"]["instance"]["id"] = 1
    world.statement.write_text(json.dumps(told), encoding="utf-8")
    assert "instance: it names 1" in _refused(world.ask("check", "--log", str(world.statement)))


@pytest.mark.parametrize("command", ["show", "check", "check --log"])
def test_what_is_no_release_is_bad_input(world: _World, command: str, tmp_path: Path) -> None:
    (tmp_path / "rubbish").write_text("{}")
    for name in ("rubbish", "none"):
        result = world.ask(*command.split(), str(tmp_path / name))
        assert isinstance(result.exception, BadInput)
        assert result.exception.exit_code == 2


def test_a_job_that_is_not_known_here_is_bad_input(world: _World) -> None:
    told = json.loads(world.statement.read_bytes())
    told["predicate"]["job"] = "elsewhere"
    world.statement.write_text(json.dumps(told), encoding="utf-8")
    result = world.ask("check", "--log", str(world.statement))
    assert isinstance(result.exception, BadInput)
    assert "no job 'elsewhere'" in str(result.exception)


def test_it_is_shown_in_words_without_control_characters(world: _World) -> None:
    told = json.loads(world.statement.read_bytes())
    told["predicate"]["artifact"]["remotePath"] = "/x\x1b[31m\nvalid: everything"
    world.statement.write_text(json.dumps(told), encoding="utf-8")
    result = world.ask("show", str(world.statement))
    assert result.exit_code == 0
    assert f"instance {INSTANCE}" in result.output
    assert "local_sha256_equals_remote PASS" in result.output
    assert "\x1b" not in result.output
    assert not any(line.startswith("valid") for line in result.output.splitlines())
