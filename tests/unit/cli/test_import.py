"""A job of another machine, taken in: it is shown, judged and reported on; nothing here drives it."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.core.clock import SystemClock
from harness.core.errors import BadInput, ProviderUnavailable, Refused
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.gates.facts_file import digest
from harness.ledger import bundle
from harness.ledger.chain import Record
from harness.ledger.events import Closed, GateJudged, Held, Pinned
from harness.ledger.history import fold
from harness.ledger.imported import Imported
from harness.ledger.sql import open_store
from harness.wiring import open_context
from tests.support.facts import facts_file
from tests.support.job_histories import Log, events_of, gate, job, judged
from tests.support.typing_commands import typing

ROOT = Path(__file__).resolve().parents[3]
NIGHT = JobName("night")
Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VAST_API_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    return tmp_path / "home"


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    del home
    return typing(monkeypatch, capsys)


def _write(home: Path, log: Log) -> None:
    store = open_store(home / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)


def _bundle(folder: Path, log: Log, evidence: bytes | None = None, *, largest: int = bundle.LARGEST) -> Path:
    """The job's bundle, with what a launch's gate was judged by."""
    there = folder / "theirs"
    shutil.rmtree(there, ignore_errors=True)
    files = {"evidence/launch.json": evidence, "companions/run.json": b"{}", "companions/big": bytes(99)}
    for name, data in ((name, data) for name, data in files.items() if data is not None):
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "LARGEST", largest)
        bundle.write(folder / "night.zip", log.history, there)
    return folder / "night.zip"


def _alive() -> Log:
    """Rented and training: what could be driven, and destroyed."""
    return Log().trained()


def _fingerprint(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_job_of_this_home_knows_its_own_artifact(home: Path, tmp_path: Path) -> None:
    _write(home, _alive())
    with (
        pytest.raises(BadInput, match="another machine, and night is this one's"),
        open_context("night", artifact=tmp_path),
    ):
        pass


def test_it_is_shown_as_another_machines_with_what_is_missing(ask: Ask, tmp_path: Path, home: Path) -> None:
    file = _bundle(tmp_path, _alive(), largest=50)
    code, out, err = ask("import", str(file))
    assert code == 0, err
    assert "job night: " in out
    assert "recorded elsewhere, and not driven here" in out
    assert [line for line in out.splitlines() if line.startswith("not in the bundle")][-1].endswith("companions/big")
    code, out, _ = ask("status")
    assert code == 0
    assert "as another machine had it" in out
    assert "next:" not in out
    code, out, _ = ask("status", "night", "--json")
    (row,) = rows = json.loads(out)
    Draft202012Validator(json.loads((ROOT / "docs" / "status.schema.json").read_text(encoding="utf-8"))).validate(rows)
    assert row["alive"] is True
    assert row["recorded_elsewhere"] == _alive().at
    assert (row["next"], row["bills"]["command"], row["bills"]["at_once"]) == (None, None, None)
    assert row["money"]["spent_usd"] < 16, "counted to the last event, not to today"
    assert not (home / "jobs").exists()


DRIVES: dict[str, tuple[str, ...]] = {
    "run by its name": ("run", "night"),
    "run by a file of its name": ("run", "{file}", "--yes"),
    "run by file, changes accepted": ("run", "{file}", "--yes", "--accept-changes"),
    "run in the place of a dead one": ("run", "night", "--replace-dead-instance"),
    "destroy": ("destroy", "night"),
    "destroy, agreed": ("destroy", "night", "--yes"),
    "destroy the only one": ("destroy",),
    "abandon": ("abandon", "night"),
    "abandon for the sentence": ("abandon", "night", "--accept-loss", "I accept the loss of instance 4711"),
    "download": ("download", "night"),
}


@pytest.fixture
def _nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a provider was opened")

    monkeypatch.setattr("harness.wiring.open_provider", asked)
    monkeypatch.setattr("harness.providers.registry.open_provider", asked)


@pytest.mark.usefixtures("_nobody_is_asked")
@pytest.mark.parametrize("how", DRIVES)
@pytest.mark.parametrize("stands", [Log.trained, Log.verified, Log.closed])
def test_nothing_drives_it(
    ask: Ask,
    tmp_path: Path,
    home: Path,
    how: str,
    stands: Callable[[Log], Log],
) -> None:
    """Whatever it was doing there: two homes that drive one instance would each destroy what the other counts on."""
    assert ask("import", str(_bundle(tmp_path, stands(Log()))))[0] == 0
    file = tmp_path / "night.toml"
    text = (ROOT / "examples" / "forex-r1-v3.toml").read_text(encoding="utf-8")
    file.write_text("\n".join('name = "night"' if line.startswith("name") else line for line in text.splitlines()))
    before = _fingerprint(home / "imported")
    code, out, err = ask(*(word.format(file=file) for word in DRIVES[how]))
    assert code == Refused.exit_code, out + err
    assert "was recorded on another machine" in " ".join(err.split())
    assert _fingerprint(home / "imported") == before
    assert open_store(home / "state.db", SystemClock()).jobs() == ()


def test_the_store_takes_nothing_and_the_provider_is_not_asked(ask: Ask, tmp_path: Path, home: Path) -> None:
    ask("import", str(_bundle(tmp_path, _alive().add(Pinned(("ssh-ed25519 AAAA",), "shown")))))
    with open_context("night", home=home) as context:
        assert context.ran_elsewhere
        with pytest.raises(Refused), context.store.lock(NIGHT):
            pass
        with pytest.raises(Refused):
            context.record(Closed())
        for reach in (context.provider, context.host, context.fresh_host):
            with pytest.raises(ProviderUnavailable, match="job of another machine"):
                reach()


def _another() -> Log:
    log = Log()
    log.at += 1
    return log.trained()


def _longer() -> Log:
    return _alive().stage(Stage.POSTTRAIN)


BESIDE: dict[str, tuple[Callable[[], Log], Callable[[], Log], int, str]] = {
    "the same again": (_alive, _alive, 0, "not driven here"),
    "it has gone on": (_alive, _longer, 0, "not driven here"),
    "an older one": (_longer, _alive, 2, "the same history, and 2 events more"),
    "another history": (_another, _alive, 2, "another history: the two part at event 2"),
}


@pytest.mark.parametrize("case", BESIDE)
def test_a_newer_bundle_takes_the_place_of_an_older_one_and_of_nothing_else(
    ask: Ask, tmp_path: Path, home: Path, case: str
) -> None:
    first, second, code, told = BESIDE[case]
    assert ask("import", str(_bundle(tmp_path, first())))[0] == 0
    before = _fingerprint(home / "imported")
    seen, out, err = ask("import", str(_bundle(tmp_path, second())))
    assert seen == code
    assert told in " ".join((out + err).split())
    records = Imported(home / "imported").records(NIGHT)
    assert records == tuple((second if code == 0 else first)().records)
    assert code == 0 or _fingerprint(home / "imported") == before


@pytest.mark.parametrize(("change", "told"), [
    (lambda log: log, "with another history"),
    (lambda log: log.add(Held(Stage.POSTTRAIN, "GateHeld", "x")), "with another history"),
])  # fmt: skip
def test_a_job_of_this_home_is_not_imported(
    ask: Ask, tmp_path: Path, home: Path, change: Callable[[Log], Log], told: str
) -> None:
    home.mkdir()
    _write(home, change(_alive()))  # at other times: another history
    code, _, err = ask("import", str(_bundle(tmp_path, _alive())))
    assert code == 2
    assert told in " ".join(err.split())
    with open_context("night", home=home) as context:
        assert not context.ran_elsewhere


def test_its_own_bundle_is_refused_in_other_words(ask: Ask, tmp_path: Path, home: Path) -> None:
    home.mkdir()
    _write(home, _alive())
    assert ask("export", "night", "--to", str(tmp_path / "own.zip"))[0] == 0
    open_store(home / "state.db", SystemClock()).append(NIGHT, Closed())
    code, _, err = ask("import", str(tmp_path / "own.zip"))
    assert code == 2
    assert "has begun in this home, with the same history, and 1 events more" in " ".join(err.split())


def test_a_job_of_this_home_goes_before_an_imported_one(ask: Ask, tmp_path: Path, home: Path) -> None:
    """A state.db that was put back: the name means the job that is driven here."""
    ask("import", str(_bundle(tmp_path, _alive())))
    _write(home, Log().rented())
    with open_context("night", home=home) as context:
        assert not context.ran_elsewhere


def test_evidence_that_was_changed_is_refused(ask: Ask, tmp_path: Path, home: Path) -> None:
    facts = facts_file(Stage.LAUNCH, job=job()).dump()
    told = replace(judged(gate(Stage.LAUNCH, job()), job()), facts_sha256=digest(facts))
    log = Log()
    for event in events_of(_alive().records)[1:]:
        log.add(told if isinstance(event, GateJudged) and event.stage is Stage.LAUNCH else event)
    code, _, err = ask("import", str(_bundle(tmp_path, log, facts + b"\n")))
    assert code == 2
    assert "night.zip was changed" in " ".join(err.split())
    assert "launch.json" in err
    assert Imported(home / "imported").jobs() == ()
    assert ask("import", str(_bundle(tmp_path, log, facts)))[0] == 0


def _flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_no_flipped_byte_of_a_log_is_taken_for_it(ask: Ask, tmp_path: Path, home: Path) -> None:
    """In the archive, and in what lies unpacked here."""
    file = _bundle(tmp_path, _alive())
    whole = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("log.json").compress_size
    for at in range(60, size, size // 20):
        file.write_bytes(whole)
        _flipped(file, at)
        assert ask("import", str(file))[0] == 2, at
    file.write_bytes(whole)
    ask("import", str(file))
    log = home / "imported" / "night" / "log.json"
    _flipped(log, log.read_bytes().index(b'"usd_per_hour": 16.0') + 17)
    code, out, err = ask("status")
    assert code == 10
    assert "night" in out
    assert "was changed after it was written" in err
    assert ask("report", "night")[0] == 10


def _entries(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            told = json.loads(archive.read("log.json"))
        change(told)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("log.json", json.dumps(told))

    return changed


def test_what_was_left_out_is_told_without_obeying_it(ask: Ask, tmp_path: Path) -> None:
    file = _bundle(tmp_path, _alive())
    _entries(lambda told: told.update(left_out=["a\x1b]0;owned\x07\n::error::x"]))(file)
    code, out, _ = ask("import", str(file))
    assert code == 0
    assert "\x1b" not in out
    assert not [line for line in out.splitlines() if line.startswith("::")]


def test_events_of_two_jobs_are_no_bundle(tmp_path: Path) -> None:
    one, two = _alive(), Log(job().model_copy(update={"name": "day"}))
    two.records = list(one.records)
    two.add(Closed())
    records: tuple[Record, ...] = tuple(two.records)
    bundle.write(tmp_path / "b.zip", replace(fold(one.records), records=records), tmp_path)
    with pytest.raises(Exception, match="events of several jobs"):
        bundle.read(tmp_path / "b.zip", tmp_path / "there")


def test_a_rehearsal_takes_another_name(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague's rehearsal has the name that every first one has."""
    ask("import", str(_bundle(tmp_path, Log(job().model_copy(update={"name": "demo"})).closed())))
    driven: list[str] = []
    monkeypatch.setattr("harness.cli.run.drive", lambda job, *_, **__: driven.append(str(job.name)))
    assert ask("demo")[0] == 0
    assert driven == ["demo-2"]


def test_an_imported_job_is_reported_on(ask: Ask, tmp_path: Path, home: Path) -> None:
    ask("import", str(_bundle(tmp_path, Log().closed())))
    code, out, err = ask("report", "--format", "html,junit")
    assert code == 0, err
    assert {Path(line).parent for line in out.splitlines()} == {home / "imported" / "night"}
