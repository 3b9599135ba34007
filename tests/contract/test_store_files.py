"""Small files that travel with a job: a machine that has the URL alone finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.artifacts import digest
from harness.core.clock import SystemClock
from harness.core.errors import LogDamaged, StoreFailed
from harness.core.ids import JobName, Sha256
from harness.core.lifecycle import ORDER, Stage
from harness.job.staging import is_staged
from harness.ledger import travelling
from harness.ledger.events import GateJudged, Opened, Released, Staged
from harness.ledger.sql import open_store
from harness.wiring import OpenContext, open_context
from tests.support.job_histories import gate, job, judged
from tests.support.postgres import Cluster

JOB = JobName("night")


@pytest.fixture
def url(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HARNESS_STATE", postgres.new_database())
    return postgres.url(f"store_{next(postgres._numbers) - 1}")


def _context(home: Path) -> OpenContext:
    with open_context(JOB, home=home, new=True) as context:
        return context


def _put(context: OpenContext, name: str, data: bytes) -> Sha256:
    path = context.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest.of_bytes(data)


def _begun(home: Path) -> OpenContext:
    context = _context(home)
    context.store.append(JOB, Opened(job().model_dump(mode="json"), "/home/me/night.toml"))
    return context


def _judged(path: str, sha256: str) -> GateJudged:
    told = judged(gate(Stage.PREFLIGHT, job()), job())
    return GateJudged(told.stage, told.verdict, told.plan_digest, told.result, path, sha256, told.demand)


@pytest.mark.usefixtures("url")
def test_what_the_log_names_is_found_on_another_machine(tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    package = {"train.py": b"print(1)\n", "data/rows.jsonl": b"{}\n"}
    files = {name: digest.of_bytes(data) for name, data in package.items()}
    for name, data in package.items():
        _put(here, f"package/{name}", data)
    here.record(Staged(str(here.directory / "package"), files))
    evidence = here.directory / "evidence" / "preflight-1.json"
    here.record(_judged(str(evidence), _put(here, "evidence/preflight-1.json", b'{"stage": "preflight"}')))
    release = here.directory / "release-9.json"
    here.record(Released(str(release), _put(here, "release-9.json", b"{}")))

    there = _context(tmp_path / "b")
    assert there.directory != here.directory
    for path in (evidence, release, *(here.directory / "package" / name for name in package)):
        assert (there.directory / path.relative_to(here.directory)).read_bytes() == path.read_bytes()
    assert is_staged(there.directory, files)


@pytest.mark.usefixtures("url")
def test_what_is_large_stays_where_it_is(tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    large = b"x" * (travelling.LARGEST + 1)
    files = {"rows": _put(here, "package/rows", large), "train.py": _put(here, "package/train.py", b"")}
    here.record(Staged(str(here.directory / "package"), files))
    assert here.store.kept(files["rows"]) is None
    there = _context(tmp_path / "b")
    assert not (there.directory / "package" / "rows").exists()
    assert (there.directory / "package" / "train.py").exists()


@pytest.mark.usefixtures("url")
def test_a_file_that_has_changed_since_it_was_named_is_not_kept(tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    named = digest.of_bytes(b"as it was judged")
    _put(here, "package/train.py", b"as it is by now")
    here.record(Staged(str(here.directory / "package"), {"train.py": named}))
    assert here.store.kept(named) is None


@pytest.mark.usefixtures("url")
def test_the_package_is_brought_as_long_as_it_may_be_sent_again(tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    here.record(Staged(str(here.directory / "package"), {"train.py": _put(here, "package/train.py", b"1")}))
    for stage in ORDER[: ORDER.index(Stage.TRAINING)]:
        passed = judged(gate(stage, job()), job())
        here.store.append(JOB, passed)
    assert not (_context(tmp_path / "b").directory / "package").exists(), "it trains"


def test_a_file_that_was_changed_in_the_store_is_refused(url: str, tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    evidence = here.directory / "evidence" / "preflight-1.json"
    here.record(_judged(str(evidence), _put(here, "evidence/preflight-1.json", b'{"stage": "preflight"}')))
    with open_store(url, SystemClock()).database.engine.begin() as connection:
        connection.exec_driver_sql("update files set data = 'another'")
    with pytest.raises(LogDamaged, match=r"evidence/preflight-1\.json of job night"):
        _context(tmp_path / "b")


@pytest.mark.parametrize("name", ["../train.py", "/train.py", "aux.py", "a\\train.py", "C:/train.py"])
@pytest.mark.usefixtures("url")
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    here.store.append(JOB, Staged("/home/me/package", {name: digest.of_bytes(b"")}))
    with pytest.raises(LogDamaged, match="names a file that cannot lie in its folder here"):
        _context(tmp_path / "b")


@pytest.mark.usefixtures("url")
def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    here.record(Staged(str(here.directory / "package"), {"train.py": _put(here, "package/train.py", b"1")}))
    in_the_way = here.directory.relative_to(here.home)
    (tmp_path / "b" / in_the_way).mkdir(parents=True)
    (tmp_path / "b" / in_the_way / "package").write_text("a file", encoding="utf-8")
    with pytest.raises(StoreFailed, match=r"cannot bring package/train\.py of job night to"):
        _context(tmp_path / "b")


def test_a_home_of_its_own_keeps_no_second_copy(tmp_path: Path) -> None:
    here = _begun(tmp_path / "a")
    sha256 = _put(here, "evidence/preflight-1.json", b'{"stage": "preflight"}')
    here.record(_judged(str(here.directory / "evidence" / "preflight-1.json"), sha256))
    assert here.store.kept(digest.of_bytes(b'{"stage": "preflight"}')) is None
