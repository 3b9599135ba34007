"""The commands by which docs/release.md has a stranger check a release, typed as they stand there."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.clock import SystemClock
from harness.core.ids import Sha256
from harness.ledger.events import Released
from harness.ledger.history import fold
from harness.ledger.sql import open_store
from harness.release import release as releases
from tests.support.job_histories import Log, events_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the page's commands are for a POSIX shell")
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "release.md").read_text(encoding="utf-8")
SIGN, CHECK, OPEN, BY_SSH, BY_PEM, FILE = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MODEL = b"GGUF" * 4096
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


def typed(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    told = {**ENVIRONMENT, "HOME": str(folder / "me"), "HARNESS_HOME": str(folder / "home")}
    line = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(line, cwd=folder, env=told, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home with an SSH key, a job that released its model, and both files in one folder."""
    (tmp_path / "me" / ".ssh").mkdir(parents=True)
    key = tmp_path / "me" / ".ssh" / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (tmp_path / "operator.pub").write_bytes(key.with_suffix(".pub").read_bytes())
    (tmp_path / "model.gguf").write_bytes(MODEL)
    log = Log().verified(
        path=str(tmp_path / "model.gguf"), size=len(MODEL), sha256=Sha256(hashlib.sha256(MODEL).hexdigest())
    )
    (tmp_path / "home").mkdir()
    store = open_store(tmp_path / "home" / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(log.job.name, event)
    data = releases.to_json(releases.statement(fold(store.records(log.job.name)), "vast", SystemClock().now()))
    (tmp_path / "release.json").write_bytes(data)
    store.append(log.job.name, Released(str(tmp_path / "release.json"), Sha256(hashlib.sha256(data).hexdigest())))
    return tmp_path


def in_pem(folder: Path) -> str:
    made = "openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out operator.pub"
    assert typed(folder, made).returncode == 0
    return str(SIGN.replace("~/.ssh/id_ed25519", "key.pem"))


def stranger(folder: Path) -> Path:
    """Another machine's folder, with the files that were sent."""
    there = folder / "elsewhere"
    there.mkdir()
    for name in ("release.dsse.json", "model.gguf", "operator.pub"):
        (there / name).write_bytes((folder / name).read_bytes())
    return there


@pytest.mark.parametrize("kind", ["ssh", "pem"])
def test_a_stranger_checks_by_the_page(folder: Path, kind: str) -> None:
    signed = typed(folder, SIGN if kind == "ssh" else in_pem(folder))
    assert signed.returncode == 0, signed.stderr
    own = typed(folder, "harness release check release.json --log")
    assert own.returncode == 0, own.stderr
    there = stranger(folder)
    checked = typed(there, CHECK)
    assert checked.returncode == 0, checked.stderr
    assert not (there / "home").exists()
    by_hand = [typed(there, part) for part in (OPEN, BY_SSH if kind == "ssh" else BY_PEM, FILE)]
    assert [done.returncode for done in by_hand] == [0, 0, 0], by_hand
    assert (there / "release.json").read_bytes() == (folder / "release.json").read_bytes()
    printed = by_hand[-1].stdout.splitlines()[-1].split()[0]
    assert printed in own.stdout
    assert printed in checked.stdout


def another_payload(there: Path) -> None:
    file = there / "release.dsse.json"
    told = json.loads(file.read_bytes())
    payload = base64.b64decode(told["payload"]).replace(b'"issuedOn":"2', b'"issuedOn":"3')
    told["payload"] = base64.b64encode(payload).decode()
    file.write_text(json.dumps(told), encoding="utf-8")


def another_key(there: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(there / "operator")], check=True)


def another_pem(there: Path) -> None:
    in_pem(there)


def another_byte(there: Path) -> None:
    (there / "model.gguf").write_bytes(b"g" + MODEL[1:])


SPOILT: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "another statement": ("ssh", another_payload, BY_SSH),
    "another statement, in PEM": ("pem", another_payload, BY_PEM),
    "another key": ("ssh", another_key, BY_SSH),
    "another key, in PEM": ("pem", another_pem, BY_PEM),
    "a changed byte": ("ssh", another_byte, FILE),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_does_not_hold_is_seen_by_hand_and_by_the_command(folder: Path, kind: str) -> None:
    key, spoil, part = SPOILT[kind]
    assert typed(folder, SIGN if key == "ssh" else in_pem(folder)).returncode == 0
    there = stranger(folder)
    spoil(there)
    assert typed(there, CHECK).returncode == 5
    assert typed(there, OPEN).returncode == 0
    assert typed(there, part).returncode != 0
