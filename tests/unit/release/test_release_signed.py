"""A stranger has the file, the statement and a key, and nothing else: what holds is called valid, all else refused."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from harness.core.errors import BadInput
from harness.core.ids import CheckId, InstanceId, Sha256
from harness.core.lifecycle import Stage
from harness.core.verdict import Verdict
from harness.release import envelope as envelopes
from harness.release import release as releases
from harness.release import signing, sshsig
from harness.release.envelope import Envelope, Signature
from harness.release.release import Release, ReleasedCheck
from tests.support.job_histories import Log
from tests.support.typing_commands import Typed, typing

_MODEL = b"GGUF" * 4096
_OLD = Path(__file__).resolve().parents[2] / "contract" / "data" / "release-0.1.0.json"


def _keygen(*words: str | Path, given: bytes = b"") -> bytes:
    return subprocess.run(["ssh-keygen", "-q", *map(str, words)], input=given, check=True, capture_output=True).stdout


def _released() -> Release:
    log = Log().verified(
        path="/home/me/model.gguf", size=len(_MODEL), sha256=Sha256(hashlib.sha256(_MODEL).hexdigest())
    )
    return releases.statement(log.history, "vast", log.at)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of OpenSSH and in PEM: the operator's, another one, and kinds that are not taken."""
    folder = tmp_path_factory.mktemp("keys")
    for kind in ("ed25519", "rsa", "ecdsa"):
        _keygen("-t", kind, "-N", "", "-C", f"me@{kind}", "-f", folder / kind)
    _keygen("-t", "ed25519", "-N", "", "-f", folder / "other")
    pems: dict[str, Any] = {
        "pem": ed25519.Ed25519PrivateKey.generate(),
        "other.pem": ed25519.Ed25519PrivateKey.generate(),
        "ec.pem": ec.generate_private_key(ec.SECP256R1()),
    }
    for name, key in pems.items():
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / name).write_bytes(key.private_bytes(*form))
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (folder / f"{name}.pub").write_bytes(public)
    (folder / "many.keys").write_bytes((folder / "other.pub").read_bytes() + (folder / "ed25519.pub").read_bytes())
    (folder / "broken.pem").write_bytes((folder / "pem").read_bytes().replace(b"M", b"N"))
    (folder / "garbage.pub").write_text("ssh-ed25519 AAAA me\n")
    (folder / "empty.pub").write_text("# no key\n\n")
    (folder / "binary.pub").write_bytes(b"\xff\xfe\x00")
    number = b"\0\0\0\x1ask-ssh-ed25519@openssh.com\0\0\0\x20" + bytes(32) + b"\0\0\0\x04ssh:"
    (folder / "sk.pub").write_text(f"sk-ssh-ed25519@openssh.com {base64.b64encode(number).decode()} me\n")
    return folder


@dataclass(frozen=True, slots=True)
class _Desk:
    """A folder with what was sent, and a keyboard; no job, no store, no network."""

    folder: Path
    keys: Path
    typed: Typed

    @property
    def statement(self) -> Path:
        return self.folder / "release.json"

    @property
    def model(self) -> Path:
        return self.folder / "model.gguf"

    @property
    def envelope(self) -> Path:
        return self.folder / "release.dsse.json"

    def sign(self, name: str) -> None:
        code, out, err = self.typed("release", "sign", str(self.statement), "--key", str(self.keys / name))
        assert code == 0, err
        assert "release.dsse.json is signed by " in out

    def check(self, *words: str | Path, key: str = "") -> tuple[int, str]:
        file = self.envelope if self.envelope.exists() else self.statement
        named = ["--key", str(self.keys / key)] if key else []
        code, out, err = self.typed("release", "check", str(file), *map(str, words), *named)
        return code, " ".join((out + err).split())

    def change(self, change: Callable[[dict[str, Any]], None]) -> None:
        told = json.loads(self.envelope.read_bytes())
        change(told)
        self.envelope.write_text(json.dumps(told), encoding="utf-8")


@pytest.fixture
def desk(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> _Desk:
    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("a stranger's look needs no network")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "no-home"))
    made = _Desk(tmp_path, keys, typing(monkeypatch, capsys))
    made.model.write_bytes(_MODEL)
    made.statement.write_bytes(releases.to_json(_released()))
    return made


def test_the_file_and_the_statement_are_enough(desk: _Desk) -> None:
    code, said = desk.check()
    assert code == 0, said
    assert "valid: " in said
    assert f"SHA-256 {hashlib.sha256(desk.statement.read_bytes()).hexdigest()}" in said
    assert "signature not asked for" in said
    assert "event log not asked for" in said
    assert not (desk.folder / "no-home").exists()


@pytest.mark.parametrize(("private", "public"), [
    ("ed25519", "ed25519.pub"),
    ("rsa", "rsa.pub"),
    ("ecdsa", "ecdsa.pub"),
    ("ed25519", "many.keys"),
    ("pem", "pem.pub"),
])  # fmt: skip
def test_what_the_key_has_signed_is_valid(desk: _Desk, private: str, public: str) -> None:
    desk.sign(private)
    code, said = desk.check(key=public)
    assert code == 0, said
    if public.endswith("many.keys") or private == "pem":
        return
    printed = _keygen("-l", "-f", desk.keys / public).decode().split()[1]
    assert f"signature by {printed}" in said
    assert f"signed by {printed}" in " ".join(desk.typed("release", "show", str(desk.envelope))[1].split())


def test_a_key_that_only_the_agent_holds_signs(desk: _Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    for line in started.splitlines()[:2]:
        name, _, value = line.partition(";")[0].partition("=")
        monkeypatch.setenv(name, value)
    try:
        subprocess.run(["ssh-add", "-q", str(desk.keys / "other")], check=True, capture_output=True)
        shutil.copy(desk.keys / "other.pub", desk.folder / "held.pub")
        made = desk.typed("release", "sign", str(desk.statement), "--key", str(desk.folder / "held.pub"))
    finally:
        subprocess.run(["ssh-agent", "-k"], check=True, capture_output=True)
    assert made[0] == 0, made
    assert desk.check(key="other.pub")[0] == 0


def test_two_may_sign_and_either_key_is_enough(desk: _Desk) -> None:
    for name in ("ed25519", "pem", "ed25519"):
        desk.sign(name)
    assert len(json.loads(desk.envelope.read_bytes())["signatures"]) == 2
    assert [desk.check(key=key)[0] for key in ("ed25519.pub", "pem.pub", "other.pub", "other.pem.pub")] == [0, 0, 5, 5]


def _other_statement() -> bytes:
    return releases.to_json(dataclasses.replace(_released(), instance_id=InstanceId(1)))


def _flip(desk: _Desk) -> None:
    desk.model.write_bytes(b"g" + _MODEL[1:])


def _cut(desk: _Desk) -> None:
    desk.model.write_bytes(_MODEL[:-1])


def _put_another_statement(desk: _Desk) -> None:
    desk.change(lambda told: told.update(payload=base64.b64encode(_other_statement()).decode()))


def _respell(desk: _Desk) -> None:
    """The same fields with blanks: another statement than the one that was signed, byte by byte."""
    spelled = json.dumps(json.loads(desk.statement.read_bytes()), indent=1).encode()
    desk.change(lambda told: told.update(payload=base64.b64encode(spelled).decode()))


def _unsign(desk: _Desk) -> None:
    desk.change(lambda told: told.update(signatures=[]))


def _strip(desk: _Desk) -> None:
    desk.envelope.unlink()


def _take_signature_of_another(desk: _Desk) -> None:
    other = signing.signed(Envelope(_other_statement()), desk.keys / "ed25519")
    desk.change(lambda told: told.update(signatures=json.loads(envelopes.to_json(other))["signatures"]))


def _sign_by(desk: _Desk, data: bytes, namespace: str = "release@gold-standard-harness.dev") -> None:
    made = _keygen("-Y", "sign", "-n", namespace, "-f", desk.keys / "ed25519", given=data)
    desk.change(lambda told: told["signatures"][0].update(sig=base64.b64encode(made).decode()))


def _sign_for_git(desk: _Desk) -> None:
    _sign_by(desk, envelopes.read(desk.envelope).signed, "git")


def _sign_the_bare_file(desk: _Desk) -> None:
    _sign_by(desk, desk.statement.read_bytes())


def _cut_the_signature(desk: _Desk) -> None:
    def cut(told: dict[str, Any]) -> None:
        lines = base64.b64decode(told["signatures"][0]["sig"]).splitlines()
        told["signatures"][0]["sig"] = base64.b64encode(b"\n".join([*lines[:-2], lines[-1]])).decode()

    desk.change(cut)


def _lie_about_the_key(desk: _Desk) -> None:
    """Signed by another key in PEM, under the name of the one that is trusted."""
    made = signing.signed(Envelope(desk.statement.read_bytes()), desk.keys / "other.pem").signatures[0]
    (trusted,) = signing.public_keys(desk.keys / "ed25519.pub")
    lie = Signature(trusted.name, made.data)
    desk.envelope.write_bytes(envelopes.to_json(Envelope(desk.statement.read_bytes(), (lie,))))


def _nothing(desk: _Desk) -> None:
    del desk


REFUSED: dict[str, tuple[Callable[[_Desk], None], str, str]] = {
    "a changed byte of the file": (_flip, "ed25519.pub", "has the SHA-256 "),
    "a file that is cut short": (_cut, "ed25519.pub", f"has {len(_MODEL) - 1} bytes, the release names {len(_MODEL)}"),
    "another key": (_nothing, "other.pub", ", and not by SHA256:"),
    "another kind of key": (_nothing, "pem.pub", "it is signed by SHA256:"),
    "another statement under the same signature": (_put_another_statement, "ed25519.pub", "is of another statement"),
    "the statement in other words": (_respell, "ed25519.pub", "is of another statement"),
    "the signature of another statement": (_take_signature_of_another, "ed25519.pub", "is of another statement"),
    "a signature that was made for git": (_sign_for_git, "ed25519.pub", "was not made for a release"),
    "a signature of the bare file": (_sign_the_bare_file, "ed25519.pub", "is of another statement"),
    "a signature that is cut short": (_cut_the_signature, "ed25519.pub", "is of another statement"),
    "another key's signature under the name of this one": (
        _lie_about_the_key,
        "ed25519.pub",
        "is of another statement",
    ),
    "an envelope that nobody signed": (_unsign, "ed25519.pub", "it is not signed, and was to be signed by SHA256:"),
    "a statement without envelope": (_strip, "ed25519.pub", "it is not signed, and was to be signed by SHA256:"),
    "a statement without envelope, for a key in PEM": (_strip, "pem.pub", "it is not signed, and was to be signed by"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_hold_is_refused_by_its_name(desk: _Desk, kind: str) -> None:
    spoil, key, said = REFUSED[kind]
    desk.sign("ed25519")
    assert desk.check(key="ed25519.pub")[0] == 0
    spoil(desk)
    code, told = desk.check(key=key)
    assert code == 5, told
    assert said in told
    assert "do not use the file" in told


def test_another_file_and_one_that_is_not_there_are_refused(desk: _Desk) -> None:
    (desk.folder / "other.gguf").write_bytes(_MODEL[::-1])
    code, said = desk.check("--artifact", desk.folder / "other.gguf")
    assert (code, "has the SHA-256" in said) == (5, True), said
    code, said = desk.check("--artifact", desk.folder / "none.gguf")
    assert (code, "does not exist" in said) == (5, True), said
    desk.model.rename(desk.folder / "renamed.gguf")
    code, said = desk.check()
    assert (code, "Name it: --artifact PATH" in said) == (2, True), said
    assert desk.check("--artifact", desk.folder / "renamed.gguf")[0] == 0


@pytest.mark.parametrize(("key", "said"), [
    ("ed25519", "is a private key"),
    ("pem", "is a private key"),
    ("ec.pem.pub", "must be an Ed25519 one"),
    ("sk.pub", "a key of the kind sk-ssh-ed25519@openssh.com is not read here"),
    ("garbage.pub", "is no public key"),
    ("empty.pub", "has no key in it"),
    ("binary.pub", "it is not text"),
    ("none.pub", "cannot read the key"),
])  # fmt: skip
def test_a_key_that_cannot_be_used_is_bad_input(desk: _Desk, key: str, said: str) -> None:
    desk.sign("ed25519")
    code, told = desk.check(key=key)
    assert code == 2, told
    assert said in told


@pytest.mark.parametrize(("key", "said"), [
    ("none", "cannot read the key"),
    ("ec.pem", "is no Ed25519 key"),
    ("broken.pem", "is no private key"),
    ("garbage.pub", "ssh-keygen did not sign with"),
])  # fmt: skip
def test_what_cannot_sign_says_so_and_leaves_no_file(desk: _Desk, key: str, said: str) -> None:
    code, _, err = desk.typed("release", "sign", str(desk.statement), "--key", str(desk.keys / key))
    assert code == 2
    assert said in " ".join(err.split())
    assert not desk.envelope.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="stands for ssh-keygen by a shell script")
@pytest.mark.parametrize(("says", "status"), [("cat", 0), ("true", 0), ("cat signature", 1)])
def test_what_is_no_signature_or_comes_with_a_refusal_signs_nothing(
    desk: _Desk, says: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = desk.keys / "ed25519"
    (tmp_path / "signature").write_bytes(_keygen("-Y", "sign", "-n", sshsig.NAMESPACE, "-f", key, given=b"anything"))
    program = tmp_path / "bin" / "ssh-keygen"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncd {tmp_path}\n{says}\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    code, _, err = desk.typed("release", "sign", str(desk.statement), "--key", str(key))
    assert (code, "ssh-keygen did not sign with" in " ".join(err.split())) == (2, True), err
    assert not desk.envelope.exists()


def test_without_ssh_keygen_it_is_said_what_to_do(desk: _Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    code, _, err = desk.typed("release", "sign", str(desk.statement), "--key", str(desk.keys / "ed25519"))
    assert (code, "ssh-keygen cannot be started" in err) == (2, True), err


BAD: dict[str, Callable[[dict[str, Any]], None]] = {
    "another type": lambda told: told.update(payloadType="text/plain"),
    "no type": lambda told: told.pop("payloadType"),
    "a payload that is no base64": lambda told: told.update(payload="{}"),
    "a payload that is a number": lambda told: told.update(payload=5),
    "a payload that is no statement": lambda told: told.update(payload="e30="),
    "signatures that are none": lambda told: told.update(signatures={"sig": "e30="}),
    "a signature that is a text": lambda told: told.update(signatures=["e30="]),
    "a signature without bytes": lambda told: told.update(signatures=[{"keyid": "me"}]),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_envelope_that_is_none_is_bad_input(desk: _Desk, kind: str) -> None:
    desk.sign("ed25519")
    desk.change(BAD[kind])
    code, said = desk.check(key="ed25519.pub")
    assert code == 2, said
    assert "release.dsse.json is not a release" in said


def test_a_field_that_is_there_twice_is_bad_input(desk: _Desk) -> None:
    """One reader would take the first, another the last."""
    desk.sign("ed25519")
    text = desk.envelope.read_text(encoding="utf-8")
    desk.envelope.write_text(text.replace("{", '{"payload": "e30=",', 1), encoding="utf-8")
    assert desk.check(key="ed25519.pub")[0] == 2


def test_more_than_a_release_can_be_is_not_read(desk: _Desk) -> None:
    desk.statement.write_bytes(b" " * (envelopes._MAX_BYTES + 1))
    code, said = desk.check()
    assert (code, "is larger than" in said) == (2, True), said


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"payload": "', b"\xff", b'{"payload": ' + b"[" * 100_000])
def test_what_does_not_parse_is_no_envelope(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "release.json").write_bytes(data)
    with pytest.raises(BadInput, match=r"release\.json is not a release: "):
        envelopes.read(tmp_path / "release.json")


def test_what_dsse_allows_of_others_is_read(desk: _Desk) -> None:
    """The other alphabet of base64, no name of a key, fields that we do not know."""
    desk.sign("pem")

    def respell(told: dict[str, Any]) -> None:
        told["payload"] = told["payload"].replace("+", "-").replace("/", "_")
        told["signatures"] = [{"sig": told["signatures"][0]["sig"], "cert": "x"}]
        told["verificationMaterial"] = {}

    desk.change(respell)
    assert desk.check(key="pem.pub")[0] == 0
    code, said = desk.check(key="other.pem.pub")
    assert (code, "it is signed by a key that it does not name, and not by" in said) == (5, True), said


def test_a_statement_of_a_gate_that_is_shut_is_neither_valid_nor_signed(desk: _Desk) -> None:
    release = _released()
    last = release.gates[-1]
    shut = dataclasses.replace(last, checks=(ReleasedCheck(last.checks[0].id, Verdict.UNKNOWN), *last.checks[1:]))
    fewer = dataclasses.replace(last, checks=last.checks[1:])
    held = dataclasses.replace(last, verdict=Verdict.FAIL)
    bent = {
        (*release.gates[:-1], shut): "did not pass",
        (*release.gates[:-1], fewer): "its checks are not those of its plan",
        (*release.gates[:-1], held): f"gate {Stage.POSTDOWNLOAD} is not open",
        release.gates[:-1]: "the postdownload gate has not passed",
    }
    for gates, said in bent.items():
        desk.statement.write_bytes(releases.to_json(dataclasses.replace(release, gates=gates)))
        code, told = desk.check()
        assert (code, said in told) == (5, True), told
        code, _, err = desk.typed("release", "sign", str(desk.statement), "--key", str(desk.keys / "pem"))
        assert (code, said in " ".join(err.split())) == (5, True), err
        assert not desk.envelope.exists()


def test_another_statement_s_envelope_is_not_written_over(desk: _Desk) -> None:
    desk.sign("pem")
    before = desk.envelope.read_bytes()
    desk.statement.write_bytes(_other_statement())
    code, _, err = desk.typed("release", "sign", str(desk.statement), "--key", str(desk.keys / "pem"))
    assert (code, "holds another statement" in " ".join(err.split())) == (2, True), err
    assert desk.envelope.read_bytes() == before


def test_a_statement_of_0_1_0_holds_by_itself(desk: _Desk) -> None:
    old = releases.read(_OLD)
    assert releases.own_problems(old) == ()
    assert releases.digest_of(old) == hashlib.sha256(_OLD.read_bytes()).hexdigest()
    shutil.copy(_OLD, desk.statement)
    desk.sign("ed25519")
    code, said = desk.check("--artifact", desk.model, key="ed25519.pub")
    assert (code, f"has {len(_MODEL)} bytes, the release names {old.size}" in said) == (5, True), said
    assert "signed" not in said
    assert CheckId("local_sha256_equals_remote") in {check.id for gate in old.gates for check in gate.checks}


def test_the_keys_of_these_tests_are_what_they_are_called(keys: Path) -> None:
    read = [signing.public_keys(keys / f"{name}.pub")[0] for name in ("ed25519", "rsa", "ecdsa")]
    kinds = [ed25519.Ed25519PublicKey, rsa.RSAPublicKey, ec.EllipticCurvePublicKey]
    assert all(isinstance(one.key, kind) for one, kind in zip(read, kinds, strict=True))  # type: ignore[attr-defined]
