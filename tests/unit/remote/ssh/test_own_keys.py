"""A box is entered as stock ssh would enter it: with the agent, ~/.ssh/config, the usual keys, known_hosts."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.errors import BadInput, HostKeyChanged, HostUnreachable
from harness.core.ports import Endpoint
from harness.remote.ssh.connection import Login, connect
from harness.remote.ssh.keys import generate_keypair, public_key
from harness.remote.ssh.own_keys import OwnKeys

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="sshd is not installed"),
    pytest.mark.skipif(sys.platform == "win32", reason="agents are asked over Unix sockets here"),
]
PASSPHRASE = "so secret"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    server = LocalSshd(tmp_path_factory.mktemp("own") / "sshd")
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _nobodys_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@dataclass(slots=True)
class Person:
    """Somebody with a ~/.ssh, and the box whose key they have."""

    home: Path
    box: LocalSshd
    monkeypatch: pytest.MonkeyPatch
    key: Path | None = None
    host: str = "127.0.0.1"

    @property
    def ssh(self) -> Path:
        folder = self.home / ".ssh"
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder

    @property
    def harness_key(self) -> Path:
        return self.home / "harness_id"

    def put(self, name: str, folder: Path | None = None) -> Path:
        """The key that opens the box, under a name."""
        path = (folder or self.ssh) / name
        shutil.copyfile(self.box.client_key, path)
        path.chmod(0o600)
        return path

    def config(self, text: str) -> None:
        (self.ssh / "config").write_text(text)

    def lock(self, path: Path) -> Path:
        """The same key with a passphrase, its public half beside it."""
        path.with_name(f"{path.name}.pub").write_text(public_key(path) + " me\n")
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", PASSPHRASE, "-P", "", "-f", str(path)], check=True)
        return path

    def own(self) -> OwnKeys:
        return OwnKeys(self.ssh, self.key, self.host)

    def enter(self) -> None:
        """One login, and one command on the box."""
        own, endpoint = self.own(), Endpoint("127.0.0.1", self.box.port)
        pin = self.home / "pin"
        login = Login(getpass.getuser(), (endpoint,), self.harness_key, own.known([endpoint]), pin, own)
        for _ in range(2):  # the key that was let in is remembered
            connect(login, endpoint).close()


@pytest.fixture
def person(tmp_path: Path, box: LocalSshd, monkeypatch: pytest.MonkeyPatch) -> Person:
    return Person(tmp_path, box, monkeypatch)


@contextmanager
def agent(socket: Path, *keys: Path) -> Iterator[str]:
    """An ssh-agent that holds keys; it ends with the block."""
    command = ["ssh-agent", "-D", "-a", str(socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it listens by then
            for key in keys:
                held = {"SSH_AUTH_SOCK": str(socket), "PATH": "/usr/bin:/bin"}
                subprocess.run(["ssh-add", "-q", str(key)], check=True, env=held)
            yield str(socket)
        finally:
            process.kill()


def _named(person: Person) -> None:
    person.put("vast")
    person.config("Host 127.*\n  IdentityFile ~/.ssh/vast\n")


def _old_format(person: Person) -> None:
    key = person.ssh / "id_rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f", str(key)], check=True)
    with (person.box.directory / "authorized_keys").open("a") as known:
        known.write(key.with_suffix(".pub").read_text())


def _included(person: Person) -> None:
    person.put("vast")
    (person.ssh / "config.d").mkdir()
    (person.ssh / "config.d" / "rented.conf").write_text('Host 127.0.0.1\nIdentityFile "%d/.ssh/vast"\n')
    person.config("Include config.d/*.conf\nHost *\n  IdentitiesOnly yes\n")


def _alias(person: Person) -> None:
    person.put("vast")
    person.host = "mybox"
    person.config("Host mybox\n  HostName 127.0.0.1\n  IdentityFile ~/.ssh/vast\nHost 127.0.0.1\n  IdentityFile none\n")


def _many(person: Person) -> None:
    names = [f"key{number}" for number in range(8)]
    for name in names:
        generate_keypair(person.ssh / name)
    person.put("the-right-one")
    person.config("".join(f"IdentityFile ~/.ssh/{name}\n" for name in [*names, "the-right-one"]))


def _given(person: Person) -> None:
    person.key = person.put("somewhere", person.home)
    generate_keypair(person.ssh / "id_ed25519")


def _harness(person: Person) -> None:
    person.put(person.harness_key.name, person.home)
    generate_keypair(person.ssh / "id_ed25519")
    person.lock(person.ssh / "id_ed25519")


def _below_a_program(person: Person) -> None:
    person.put("id_ed25519")
    person.config(f"Match exec 'touch {person.home}/ran'\nIdentityFile none\nHost *\nIdentityFile ~/.ssh/id_ed25519\n")


def _given_without_configuration(person: Person) -> None:
    person.key = person.put("somewhere", person.home)
    person.config("Host 'open\n")


FOUND: dict[str, Callable[[Person], object]] = {
    "a usual name": lambda person: person.put("id_ed25519"),
    "a usual name, written in the old format": _old_format,
    "the configuration names it": _named,
    "a file that the configuration includes names it": _included,
    "an alias of the configuration": _alias,
    "more wrong keys before it than sshd bears over one connection": _many,
    "named on the command line": _given,
    "named on the command line, beside a configuration that does not read": _given_without_configuration,
    "named beside what only a program would tell": _below_a_program,
    "the harness's own, after one with a passphrase": _harness,
}


@pytest.mark.parametrize("how", FOUND)
def test_the_key_is_found(person: Person, how: str) -> None:
    FOUND[how](person)
    person.enter()
    assert not (person.home / "ran").exists()


LOCKED = {
    "of the session": ("id_ed25519", "", ""),
    "of the session, that holds another key": ("vast", "", ""),
    "that the configuration names": ("id_ed25519", "IdentityAgent {socket}\n", ""),
    "whose one named key alone is meant": ("vast", "IdentityFile ~/.ssh/vast\nIdentitiesOnly yes\n", ""),
    "that is asked for the key of the command line": ("vast", "", "vast"),
    "that the configuration names, for the key of the command line": ("vast", "IdentityAgent {socket}\n", "vast"),
}


@pytest.mark.parametrize("which", LOCKED)
def test_an_agent_signs_where_the_key_has_a_passphrase(person: Person, which: str) -> None:
    name, config, only = LOCKED[which]
    key = person.put(name)
    with agent(person.home / "agent", key) as socket:
        person.lock(key)
        person.config(config.format(socket=socket))
        if "{socket}" not in config:
            person.monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        person.key = person.ssh / only if only else None
        person.enter()


def _strangers_agent(person: Person) -> None:
    person.monkeypatch.setenv("SSH_AUTH_SOCK", str(person.home / "nobody"))


def _locked_and_named(person: Person) -> None:
    person.key = person.lock(person.put("vast"))


def _no_key(person: Person) -> None:
    person.key = person.home / "not-there"
    person.put("id_ed25519")


def _only_named(person: Person) -> None:
    generate_keypair(person.home / "other")
    person.key = person.home / "other"
    person.put("id_ed25519")


REFUSED: dict[str, tuple[Callable[[Person], object], str]] = {
    "no key at all": (_strangers_agent, "there is no key on this machine"),
    "a passphrase, and no agent": (lambda p: p.lock(p.put("id_ed25519")), "has a passphrase, and no agent holds it"),
    "a passphrase on the named one": (_locked_and_named, "vast has a passphrase"),
    "a named one that is not there": (_no_key, "not-there is no private key that can be used: No such file"),
    "a named one that the box does not know": (_only_named, "other"),
    "a public half in its place": (lambda p: (p.ssh / "id_rsa").write_text("ssh-rsa AAAA me"), "no private key that"),
    "a configuration that does not read": (lambda p: p.config("Host 'open\n"), "config cannot be read"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_without_a_key_the_next_step_is_said(person: Person, why: str) -> None:
    spoil, said = REFUSED[why]
    spoil(person)
    with pytest.raises(BadInput, match=said) as error:
        person.enter()
    assert "--key" in error.value.remedy


def _line(person: Person, host: str = "", key: Path | None = None) -> str:
    return f"{host or f'[127.0.0.1]:{person.box.port}'} {public_key(key or person.box.host_key)}\n"


def _hashed(person: Person) -> None:
    (person.ssh / "known_hosts").write_text(_line(person))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(person.ssh / "known_hosts")], check=True, capture_output=True)


def _elsewhere(person: Person) -> None:
    person.config("UserKnownHostsFile ~/.ssh/boxes\nHostKeyAlias rented\n")
    (person.ssh / "boxes").write_text(_line(person, "rented"))


def _damaged(person: Person) -> None:
    lines = ["|1|=|= ssh-rsa AAAA", f"[127.0.0.1]:{person.box.port} ssh-rsa A", "@revoked * ssh-rsa AAAA", "# me", "x"]
    (person.ssh / "known_hosts").write_bytes("\n".join(lines).encode() + b"\n\xff\n" + _line(person).encode())


KNOWN: dict[str, Callable[[Person], object]] = {
    "listed": lambda person: (person.ssh / "known_hosts").write_text(_line(person)),
    "hashed": _hashed,
    "below lines that do not read": _damaged,
    "in a file and under a name of the configuration's": _elsewhere,
}


@pytest.mark.parametrize("how", KNOWN)
def test_a_host_key_that_known_hosts_has_is_required_and_no_first_one_recorded(person: Person, how: str) -> None:
    person.put("id_ed25519")
    KNOWN[how](person)
    person.enter()
    assert not (person.home / "pin").exists()


def test_another_host_key_than_known_hosts_has_is_refused_as_ssh_does(person: Person) -> None:
    person.put("id_ed25519")
    generate_keypair(person.home / "stranger")
    (person.ssh / "known_hosts").write_text(_line(person, key=person.home / "stranger"))
    before = (person.box.directory / "sshd.log").read_text().count("Accepted publickey")
    with pytest.raises(HostKeyChanged) as error:
        person.enter()
    assert f"ssh-keygen -R '[127.0.0.1]:{person.box.port}'" in error.value.remedy
    assert (person.box.directory / "sshd.log").read_text().count("Accepted publickey") == before
    forgotten = ["ssh-keygen", "-R", f"[127.0.0.1]:{person.box.port}", "-f", str(person.ssh / "known_hosts")]
    subprocess.run(forgotten, check=True, capture_output=True)
    person.enter()
    assert (person.home / "pin").read_text().strip() == public_key(person.box.host_key)


def test_a_host_that_nobody_knows_is_pinned_at_the_first_contact(person: Person) -> None:
    person.put("id_ed25519")
    (person.ssh / "known_hosts").write_text(_line(person, "[127.0.0.1]:1"))
    person.enter()
    (person.home / "pin").write_text(public_key(person.box.client_key) + "\n")
    with pytest.raises(HostKeyChanged):
        person.enter()


def test_a_box_that_does_not_answer_is_no_matter_of_keys(person: Person) -> None:
    person.put("id_ed25519")
    person.box.stop()
    try:
        with pytest.raises(HostUnreachable, match="does not answer"):
            person.enter()
    finally:
        person.box.start()
