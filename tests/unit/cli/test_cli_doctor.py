"""``harness doctor``: a line for each thing that a job needs here, its verdict, and nothing changed by the look."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from harness.cli import doctor, entry
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, MissingExtra, NoKey, ProviderUnavailable
from harness.core.ids import JobName
from harness.core.ports import Account, Listing
from harness.facts import runtime
from harness.job.provider import ProviderTable
from harness.ledger.events import InstanceStopped, Opened, RentIntended
from harness.ledger.sql import open_store
from harness.providers import registry
from harness.shellguard import shim
from tests.support.job_histories import INSTANCE, Log, events_of, job
from tests.support.scripted_keys import ScriptedKeys

Asked = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


class Market:
    """A provider that answers what the test says."""

    def __init__(self, account: Account | Exception) -> None:
        self.told = account

    def account(self) -> Account:
        if isinstance(self.told, Exception):
            raise self.told
        return self.told

    def instances(self) -> Listing:
        return Listing(())

    def volumes(self) -> tuple[()]:
        return ()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with nothing: no key, no job, no network that is asked."""
    for name in ("VAST_API_KEY", "XDG_CONFIG_HOME", "VAST_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "ready", lambda: "1.0")
    return tmp_path / "home"


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asked:
    """Asks for the findings; the exit code, and the findings by their ids."""
    del home

    def asked(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["harness", "doctor", *words, "--json"])
        code: int | str | None = 0
        try:
            entry.main()
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        found = json.loads(said.out)["findings"] if said.out.startswith("{") else []
        assert all(one["verdict"] == "pass" or one["remedy"] for one in found)
        return int(code or 0), {one["id"]: one for one in found} or {"error": {"seen": said.err}}

    return asked


def only_vast(monkeypatch: pytest.MonkeyPatch, opened: Callable[..., object]) -> None:
    """Have a key of that provider alone: nobody has one of every kind that is known."""

    def of_its_kind(table: ProviderTable, *more: object) -> object:
        if table.kind != "vast":
            raise NoKey(f"no key of {table.kind}")
        return opened(table, *more)

    monkeypatch.setattr(doctor, "open_provider", of_its_kind)


def market(monkeypatch: pytest.MonkeyPatch, account: Account | Exception) -> None:
    def opened(*_: object) -> Market:
        if isinstance(account, BadInput | MissingExtra):
            raise account
        return Market(account)

    only_vast(monkeypatch, opened)


def shut(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: one["verdict"] for name, one in found.items() if one["verdict"] != "pass"}


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_a_fresh_machine_lacks_nothing_that_no_job_has_asked_for(ask: Asked, home: Path) -> None:
    code, found = ask()
    assert (code, shut(found)) == (0, {})
    assert "no key" in found["account vast"]["seen"] or "no Vast.ai API key" in found["account vast"]["seen"]
    assert found["jobs"]["seen"] == "no job has begun"
    assert found["ssh key"]["seen"].startswith("none yet")
    assert not home.exists()
    assert not tree(home.parent)


def test_the_words_are_lines_with_a_verdict(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "ssh").mkdir(parents=True)
    (home / "ssh" / "id_ed25519").write_text("no key")
    with pytest.raises(Exception, match="not as it should be: ssh key"):
        doctor.doctor(None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("PASS    state") for line in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("FAIL    ssh key"))
    assert "not an SSH private key" in lines[at]
    assert lines[at + 2].startswith("        next      move it away")


@pytest.mark.parametrize(
    ("account", "code", "verdicts", "said"),
    [
        (Account(7, 12.5), 0, {}, "account 7, 12.50 USD of credit"),
        (Account(7, 0.0), 3, {"account vast": "fail"}, "0.00 USD"),
        (Account(7, -3.0), 3, {"account vast": "fail"}, "-3.00 USD"),
        (ProviderUnavailable("GET /users/current answered 401"), 4, {"account vast": "unknown"}, "answered 401"),
        (ProviderUnavailable("got no reply: timed out"), 4, {"account vast": "unknown"}, "got no reply"),
        (MissingExtra("the provider", "vast"), 0, {}, "pip install 'gold-standard-harness[vast]'"),
        (RuntimeError("odd"), 4, {"account vast": "unknown"}, "unexpected answer: RuntimeError: odd"),
    ],
)
def test_an_account_is_asked_for_its_credit(
    ask: Asked,
    monkeypatch: pytest.MonkeyPatch,
    *,
    account: Account | Exception,
    code: int,
    verdicts: dict[str, str],
    said: str,
) -> None:
    market(monkeypatch, account)
    seen, found = ask()
    assert (seen, shut(found)) == (code, verdicts)
    assert said in found["account vast"]["seen"]


def test_a_key_that_is_none_is_a_failure_where_no_key_is_not(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", "two words")
    code, found = ask()
    assert (code, shut(found)) == (3, {"account vast": "fail"})
    assert "characters that no key has" in found["account vast"]["seen"]
    assert "two words" not in json.dumps(found)


@pytest.mark.parametrize(
    ("apart", "verdict"), [(0, "pass"), (100, "pass"), (-100, "pass"), (200, "fail"), (-200, "fail")]
)
def test_a_clock_that_is_wrong_is_told(ask: Asked, monkeypatch: pytest.MonkeyPatch, apart: float, verdict: str) -> None:
    market(monkeypatch, Account(7, 12.5, SystemClock().now() - apart))
    code, found = ask()
    assert (code, found["clock"]["verdict"]) == (0 if verdict == "pass" else 3, verdict)
    if verdict == "fail":
        assert f"{'ahead of' if apart > 0 else 'behind'} the provider's" in found["clock"]["seen"]


def test_a_provider_that_nobody_has_a_key_of_worries_nobody(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    code, found = ask()
    assert (code, shut(found)) == (0, {})
    assert "no RunPod API key was found; needed to rent there" in found["account runpod"]["seen"]
    monkeypatch.setenv("RUNPOD_API_KEY", "two words")
    code, found = ask()
    assert code != 0
    assert "two words" not in json.dumps(found)


def test_a_provider_that_never_answers_costs_bounded_time(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(doctor, "_WITHIN_S", 0.2)
    only_vast(monkeypatch, lambda *_: never.wait(60))
    code, found = ask()
    never.set()
    assert (code, shut(found)) == (4, {"account vast": "unknown"})
    assert found["account vast"]["seen"] == "no answer within 0.2 s"
    assert "network" in found["account vast"]["remedy"]


def _write(home: Path, log: Log) -> None:
    home.mkdir(exist_ok=True)
    store = open_store(home / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(JobName(log.job.name), event)


def test_a_job_that_bills_is_told_with_its_instance(ask: Asked, home: Path) -> None:
    log = Log(job())
    log.rented()
    _write(home, log)
    before = tree(home)
    code, found = ask()
    assert (code, shut(found)) == (0, {})
    told = found[f"job {log.job.name}"]["seen"]
    assert f"instance {INSTANCE} bills $16.00/h" in told
    assert f"harness status {log.job.name}" in told
    assert tree(home) == before


def test_a_stopped_instance_is_told_at_its_disks_price(ask: Asked, home: Path) -> None:
    log = Log(job())
    _write(home, log.rented().add(InstanceStopped(INSTANCE, "the budget is used up")))
    code, found = ask()
    assert (code, shut(found)) == (0, {})
    told = found[f"job {log.job.name}"]["seen"]
    assert f"instance {INSTANCE} is stopped, its disk bills the provider's storage price" in told
    assert "$" not in told


def test_a_rent_without_an_outcome_is_unknown(ask: Asked, home: Path) -> None:
    log = Log(job())
    log.add(RentIntended("gsh-night-00000000", {"usd_per_hour": 16.0}, owner=7))
    _write(home, log)
    code, found = ask()
    assert (code, list(shut(found).values())) == (4, ["unknown"])
    assert "harness orphans" in found[f"job {log.job.name}"]["remedy"]


def test_a_store_that_does_not_read_is_a_failure(ask: Asked, home: Path) -> None:
    home.mkdir()
    (home / "state.db").write_bytes(b"no database" * 1000)
    code, found = ask()
    assert (code, shut(found)) == (3, {"jobs": "fail"})


def test_a_home_that_cannot_be_written_to_is_a_failure(ask: Asked, home: Path) -> None:
    home.write_text("a file")
    code, found = ask()
    assert (code, shut(found)) == (3, {"state": "fail"})
    assert "it is no folder" in found["state"]["seen"]
    assert "HARNESS_HOME" in found["state"]["remedy"]


def test_a_guard_that_nobody_asks_is_a_failure(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    shim.install(shim.directory())
    code, found = ask()
    assert (code, shut(found)) == (3, {"guard": "fail"})
    monkeypatch.setenv("PATH", str(shim.directory()))
    assert ask()[0] == 0


def test_extras_are_told_with_what_they_are_for(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "0.1" if name == "trl" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    code, found = ask()
    assert code == 0
    told = found["[training]"]["seen"]
    assert "not here: torch, trl" in told
    assert "(0.1 is here)" in told
    assert "gates.smoke_run" in told
    assert "pip install 'gold-standard-harness[training]'" in told


def test_a_runtime_that_does_not_load_is_unknown(ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise ProviderUnavailable("illegal instruction")

    monkeypatch.setattr(runtime, "ready", broken)
    monkeypatch.setattr(doctor, "_lacking", lambda _: ())
    code, found = ask()
    assert (code, shut(found)) == (4, {"[runtime]": "unknown"})
    assert "illegal instruction" in found["[runtime]"]["seen"]


def _job_file(folder: Path, *lines: str, kind: str = "vast") -> Path:
    package = folder / "package"
    package.mkdir()
    (package / "train.py").write_text("BATCH_SIZE = 32\n")
    path = folder / "job.toml"
    text = ['name = "mine"', 'profile = "forex-r1-v3"', "[provider]", f'kind = "{kind}"']
    text += ["[package]", 'source = "package"', *lines]
    path.write_text("\n".join(text))
    return path


def test_a_job_is_judged_by_its_own_checks(ask: Asked, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    market(monkeypatch, Account(7, 1.0))
    monkeypatch.setattr("harness.wiring.open_provider", lambda *_: Market(Account(7, 1.0)))
    (home.parent / "older").mkdir()
    (home.parent / "older" / "model.gguf").write_bytes(b"x")
    path = _job_file(home.parent, "[artifact]", 'destination = "older"', "[limits]", "budget_usd = 1.0")
    before = tree(home.parent)
    code, found = ask(str(path))
    assert code == 3
    assert shut(found) == {
        "checkpoints_fit_plan": "fail",
        "cost_within_budget": "fail",
        "credentials_work": "fail",
        "destination_is_clean": "fail",
    }
    assert "in the destination already: model.gguf" in found["destination_is_clean"]["seen"]
    assert "1.00 USD of credit, the plan needs 1" in found["credentials_work"]["seen"]
    assert found["no_orphans"]["verdict"] == "pass"
    assert tree(home.parent) == before


def test_an_embedded_job_starts_no_emulator(ask: Asked, home: Path) -> None:
    path = _job_file(home.parent, kind="emulated")
    code, found = ask(str(path))
    assert code == 0, shut(found)
    assert found["destination_is_clean"]["verdict"] == "pass"
    assert "credentials_work" not in found
    assert not home.exists()


@pytest.mark.parametrize(
    ("kind", "makes_keys", "told"),
    [
        ("vast", True, None),
        ("vast", False, "may make no other keys"),
        ("runpod", True, "issues no key that can do nothing but stop one instance"),
        ("emulated", False, None),
    ],
)
def test_a_box_that_is_to_stop_itself_is_told_of_beforehand(
    ask: Asked, home: Path, monkeypatch: pytest.MonkeyPatch, *, kind: str, makes_keys: bool, told: str | None
) -> None:
    if kind == "vast":
        monkeypatch.setattr(registry, "open_stop_keys", lambda _: ScriptedKeys(makes_keys=makes_keys))
    path = _job_file(home.parent, "[limits]", "stop_unheard_s = 600", kind=kind)
    market(monkeypatch, Account(7, 1.0))
    monkeypatch.setattr("harness.wiring.open_provider", lambda *_: Market(Account(7, 1.0)))
    finding = ask(str(path))[1]["switch"]
    assert finding["verdict"] == ("pass" if told is None else "fail")
    assert told is None or told in finding["seen"]
    assert told is None or "limits.stop_unheard_s" in finding["remedy"]


def test_an_embedded_job_without_its_extras_is_told(ask: Asked, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _job_file(home.parent, kind="emulated")
    monkeypatch.setattr(doctor, "_lacking", lambda extra: ("asyncssh",) if extra == "emulator" else ())
    code, found = ask(str(path))
    assert (code, shut(found)) == (4, {"credentials_work": "unknown"})
    assert "pip install 'gold-standard-harness[emulator]'" in found["credentials_work"]["seen"]


def test_a_job_that_has_begun_is_known_by_its_name(ask: Asked, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.wiring.open_provider", lambda *_: Market(Account(7, 100.0)))
    log = Log(job())
    _write(home, log)
    (home.parent / "package").mkdir()
    of = job(package={"source": str(home.parent / "package")})
    open_store(home / "state.db", SystemClock()).append(JobName(of.name), Opened(of.model_dump(mode="json"), "gone"))
    _, found = ask(of.name)
    assert found["no_orphans"]["verdict"] == "pass"
    assert ask("nothere")[0] == 2


def test_a_job_that_has_begun_is_judged_by_its_file_as_that_is_now(
    ask: Asked, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.wiring.open_provider", lambda *_: Market(Account(7, 100.0)))
    package, file = home.parent / "package", home.parent / "night.toml"
    package.mkdir()
    file.write_text(f'name = "night"\nprofile = "forex-r1-v3"\n[package]\nsource = {json.dumps(str(package))}\n')
    home.mkdir()
    then = job(package={"source": str(home.parent / "gone")})
    open_store(home / "state.db", SystemClock()).append(
        JobName("night"), Opened(then.model_dump(mode="json"), str(file))
    )
    _, found = ask("night")
    assert found["no_orphans"]["verdict"] == "pass"  # the package that is gone would have ended the look


def test_a_job_file_that_does_not_load_is_bad_input(ask: Asked, home: Path) -> None:
    path = home.parent / "job.toml"
    path.write_text("name = 1")
    code, found = ask(str(path))
    assert code == 2
    assert "the job file does not fit" in found["error"]["seen"]
