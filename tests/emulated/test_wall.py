"""The wall through the command line: real processes, a real job, and no key where it does not belong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.emulator.running import Emulator, running
from harness.ledger.events import Closed, Destroyed
from tests.support.emulator_kit import create_request, scenario
from tests.support.operator import ROOT, Operator
from tests.support.warm import warm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS")


@dataclass
class Person:
    """Somebody with a home, a key in the client's file, and a terminal."""

    folder: Path
    emulator: Emulator
    said: str = ""

    @property
    def key_file(self) -> Path:
        """Where the client looks."""
        return self.folder / ".config" / "vastai" / "vast_api_key"

    @property
    def environ(self) -> dict[str, str]:
        """Theirs."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "HARNESS_HOME": str(self.folder / "home"),
            "VAST_URL": self.emulator.url,
        }

    def types(self, *words: str, **more: str) -> int:
        """A ``harness`` command; its exit code."""
        line = [sys.executable, "-m", "harness", *words]
        done = warm().run(
            line,
            env=self.environ | more,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.said += done.stdout + done.stderr
        sys.stdout.write(f"{words} {done.returncode}\n{done.stdout}{done.stderr}")
        return done.returncode

    def types_at_a_terminal(self, words: tuple[str, ...], answer: str) -> int:
        """The same, with an answer to what it asks."""
        import pty

        outer, inner = pty.openpty()
        line = [sys.executable, "-m", "harness", *words]
        with subprocess.Popen(line, env=self.environ, cwd=ROOT, stdin=inner, stdout=inner, stderr=inner) as process:
            os.write(outer, answer.encode() + b"\n")
            os.close(inner)
            try:
                while said := os.read(outer, 4096):
                    self.said += said.decode()
            except OSError:  # the other end is closed
                pass
        os.close(outer)
        return process.returncode

    def keys(self) -> dict[str, str]:
        """Every key of the account by its name, the first one under ``own``."""
        state = self.emulator.world.state
        return {"own": state.key} | {key.name.split("-")[1]: key.secret for key in state.scoped_keys.values()}


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with running(tmp_path / "state", scenario=scenario()) as emulator:
        found = Person(tmp_path / "person", emulator)
        found.key_file.parent.mkdir(parents=True)
        found.key_file.write_text(emulator.key)
        yield found


def files_with(secret: str, folder: Path) -> list[str]:
    """Every file below a folder that holds a secret."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in paths if secret.encode() in path.read_bytes())


@pytest.mark.slow
def test_locked_rotated_and_unlocked_by_typing(person: Person) -> None:
    own = person.emulator.key
    assert person.types("guard", "status") == 3
    assert person.types("guard", "lock") == 0
    first = person.keys()
    assert set(first) == {"own", "everyday", "working"}
    assert person.key_file.read_text() == first["everyday"]
    assert person.types("guard", "status") == 0
    assert person.types("guard", "lock") == 0, "it stands: nothing is made anew"
    assert person.keys() == first
    assert person.types("guard", "status", VAST_API_KEY=own) == 3, "the own key in a variable is a gap"
    assert person.types("guard", "rotate") == 0
    assert set(person.keys()) == set(first)
    assert not {*person.keys().values()} & {first["everyday"], first["working"]}
    assert person.types("guard", "unlock") == 5, "without a terminal nobody takes it down"
    assert person.types_at_a_terminal(("guard", "unlock"), "yes") == 5
    assert person.types("guard", "status") == 0
    last = person.keys()
    assert person.types_at_a_terminal(("guard", "unlock"), "unlock") == 0, person.said
    assert person.keys() == {"own": own}
    assert person.key_file.read_text() == own
    assert not list((person.folder / "home" / "keys").glob("*.json"))
    for secret in (*first.values(), *last.values()):
        assert secret not in person.said


def test_a_provider_without_scoped_keys_is_told(person: Person) -> None:
    assert person.types("guard", "lock", "--provider", "emulated") == 2
    assert "issues no keys" in person.said
    assert person.types("guard", "lock", "--provider", "nobody") == 2


@pytest.mark.slow
def test_a_whole_job_behind_the_wall(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rented, watched, destroyed through the door with the kept key; every key is where it belongs and nowhere else."""
    bystander = person.emulator.world.create(7_100_002, create_request(label="somebody's"))
    assert person.types("guard", "lock") == 0
    keys = person.keys()
    operator = Operator(person.folder, "none", changes=(('kind = "emulated"\nscenario = "none"', 'kind = "vast"'),))
    for name, value in person.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    assert operator.run() == 0
    kinds = [type(event) for event in operator.events()]
    assert kinds[-1] is Closed
    assert Destroyed in kinds
    assert list(person.emulator.world.rentals()) == [bystander.id]
    assert person.types("orphans") == 0
    assert person.types("status") == 0
    person.said += "".join(done.stdout + done.stderr for done in operator.said)
    for name, secret in keys.items():
        assert secret not in person.said, name
        assert files_with(secret, person.emulator.world.state_dir / "boxes") == []
        where = [".config/vastai/vast_api_key"] if name == "everyday" else []
        assert files_with(secret, person.folder) == sorted([*where, "home/keys/vast.json"]), name
