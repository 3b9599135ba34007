"""The wall, killed before and after each of its effects; what it refuses to build on; where it keeps what."""

from __future__ import annotations

import itertools
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.core import durable
from harness.core.errors import BadInput, Conflict, HarnessError, ProviderUnavailable
from harness.providers import wall as walls
from harness.providers.keeping import SERVICE, KeyStore
from harness.providers.scoped_keys import ALLOWED, REFUSED, Act, KeyPlace, Scope, ScopedKey
from harness.providers.wall import Wall, read_record, working_key

OWN, SERVER, ACCOUNT = "own-key", "https://service.example", 7
EVERY_ACT = frozenset(Act)
RIGHTS = {scope: frozenset(ALLOWED[scope]) for scope in Scope} | {
    Scope.WORKING: frozenset(ALLOWED[Scope.WORKING]) | {Act.DESTROY}
}


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Fuse:
    """Counts effects, each before and after it, and kills at one of them."""

    left: int = sys.maxsize

    def __call__(self) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1

    def around(self, act: Callable[..., object]) -> Callable[..., object]:
        def acting(*given: object, **named: object) -> object:
            self()
            done = act(*given, **named)
            self()
            return done

        return acting


@dataclass
class Service:
    """A provider's scoped keys in memory."""

    home: Path
    environ: dict[str, str] = field(default_factory=dict)
    rights: dict[Scope, frozenset[Act]] = field(default_factory=lambda: dict(RIGHTS))
    keys: dict[int, tuple[str, str, frozenset[Act]]] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=lambda: {OWN: ACCOUNT})
    tried: list[tuple[str, Act]] = field(default_factory=list)
    server: str = SERVER
    limits: tuple[str, ...] = ()
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(100))

    def places(self) -> tuple[KeyPlace, ...]:
        paths = (self.home / "config" / "key", self.home / ".legacy", self.home / "config" / "session")
        files = (KeyPlace(str(p), p, p.read_text().strip() if p.exists() else None) for p in paths)
        return (KeyPlace("SERVICE_KEY", None, self.environ.get("SERVICE_KEY")), *files)

    def rights_of(self, key: str) -> frozenset[Act]:
        if key in self.owners:
            return EVERY_ACT
        return next((acts for _, secret, acts in self.keys.values() if secret == key), frozenset())

    def _need(self, by: str) -> None:
        if by not in self.owners:
            raise BadInput("too little")

    def account(self, by: str) -> int:
        self._need(by)
        return self.owners[by]

    def issue(self, by: str, scope: Scope, name: str) -> ScopedKey:
        self._need(by)
        number = next(self.numbers)
        self.keys[number] = (name, f"secret-{number}", self.rights[scope])
        return ScopedKey(number, f"secret-{number}")

    def named(self, by: str) -> dict[int, str]:
        self._need(by)
        return {number: name for number, (name, _, _) in self.keys.items()} | {1: "mine"}

    def revoke(self, by: str, key_id: int) -> None:
        self._need(by)
        assert key_id != 1, "the wall deletes no key that it did not make"
        self.keys.pop(key_id, None)

    def may(self, key: str, act: Act) -> bool:
        self.tried.append((key, act))
        return act in self.rights_of(key)


@pytest.fixture
def keyring(no_keyring: None, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A keyring in memory in the place of the operating system's."""
    del no_keyring  # comes before
    entries: dict[tuple[str, str], str] = {}
    monkeypatch.setitem(
        sys.modules,
        "keyring",
        SimpleNamespace(
            get_password=lambda service, name: entries.get((service, name)),
            set_password=lambda service, name, text: entries.__setitem__((service, name), text),
            delete_password=lambda service, name: entries.__delitem__((service, name)),
            get_keyring=lambda: SimpleNamespace(name="in memory"),
        ),
    )
    return entries


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    """A fuse around every effect on the disk; the service's and the keyring's are put around theirs."""
    fuse = Fuse()
    for name in ("write", "remove"):
        monkeypatch.setattr(durable, name, fuse.around(getattr(durable, name)))
    return fuse


def built(folder: Path, *, key: str | None = OWN, legacy: str | None = None) -> Wall:
    service = Service(folder / "user")
    for path, text in zip(walls._files(service.places()), (key, legacy), strict=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text + "\n")
    return Wall(service, KeyStore(folder / "home", "service"))


def service_of(wall: Wall) -> Service:
    assert isinstance(wall.issuer, Service)
    return wall.issuer


def lying(wall: Wall) -> dict[str, str | None]:
    return {place.told: place.key for place in wall.issuer.places()}


def require_standing(wall: Wall) -> None:
    service, record = service_of(wall), read_record(wall.store)
    assert record is not None
    (pair,) = record.pairs
    assert pair.proven
    assert {number: name for number, (name, _, _) in service.keys.items()} == {
        key.id: pair.name(scope) for scope, key in zip(Scope, pair.made(), strict=True)
    }
    assert pair.everyday is not None
    assert [place.key for place in service.places()] == [None, pair.everyday.secret, None, None]
    assert all(place.holds for place in wall.standing())
    assert record.own == OWN


def require_nothing_lost(wall: Wall) -> None:
    """The own key is in its place or kept, and what the harness would use can do its work."""
    service, record = service_of(wall), read_record(wall.store)
    found = next((place.key for place in service.places() if place.key), None)
    assert OWN in {*lying(wall).values(), record.own if record else None}
    used = working_key(wall.store, SERVER, found) or found
    assert used is not None
    assert Act.MANAGE in service.rights_of(used), "the harness has no key that works"


COMMANDS: dict[str, Callable[[Wall], None]] = {
    "lock": lambda wall: wall.lock(),
    "rotate": lambda wall: wall.lock(anew=True),
    "unlock": lambda wall: wall.unlock(),
}


def killed(fuse: Fuse, point: int, wall: Wall, command: str) -> bool:
    """Run a command that is killed at one of its effects; False when it had fewer."""
    service = service_of(wall)
    service.issue, service.revoke = fuse.around(service.issue), fuse.around(service.revoke)  # type: ignore[method-assign, assignment]
    fuse.left = point
    try:
        COMMANDS[command](wall)
    except Killed:
        return True
    finally:
        fuse.left = sys.maxsize
    return False


ROADS = [
    (command, then, kept)
    for command in COMMANDS
    for then in dict.fromkeys((command, "lock", "unlock"))
    for kept in ("keyring", "no_keyring")
]


@pytest.mark.parametrize("road", ROADS, ids=" ".join)
def test_killed_at_any_effect_it_goes_on(
    road: tuple[str, str, str],
    armed: Fuse,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command, then, kept = road
    if request.getfixturevalue(kept) is not None:
        for name in ("set_password", "delete_password"):
            monkeypatch.setattr(sys.modules["keyring"], name, armed.around(getattr(sys.modules["keyring"], name)))
    for point in itertools.count():
        wall = built(tmp_path / str(point), legacy="old-key")
        service_of(wall).owners["old-key"] = ACCOUNT
        began = lying(wall)
        if command != "lock":
            wall.lock()
        if not killed(armed, point, wall, command):
            break
        require_nothing_lost(wall)
        if then != "unlock":
            COMMANDS[then](wall)
            require_standing(wall)
            continue
        if wall.store.load() is not None:
            wall.unlock()
        assert lying(wall) == began
        assert not service_of(wall).keys
        assert not wall.store.path.exists()
    assert point > 8, "hardly an effect was seen"


def test_the_own_key_and_every_other_come_back_to_their_places(tmp_path: Path) -> None:
    wall = built(tmp_path, legacy="older")
    session = tmp_path / "user" / "config" / "session"
    session.write_text("two-factor")
    began = lying(wall)
    wall.lock()
    assert [key for key in lying(wall).values() if key] == ["secret-100"]
    wall.unlock()
    assert lying(wall) == began


def test_a_key_of_the_environment_is_written_down_before_the_others_go(tmp_path: Path) -> None:
    wall = built(tmp_path, key=None)
    service_of(wall).environ["SERVICE_KEY"] = OWN
    wall.lock()
    gaps = [place.told for place in wall.standing() if not place.holds]
    assert gaps == ["SERVICE_KEY"], "a variable with the own key is a gap"
    del service_of(wall).environ["SERVICE_KEY"]
    assert all(place.holds for place in wall.standing())
    wall.unlock()
    assert OWN in lying(wall).values()


@pytest.mark.parametrize(
    ("scope", "more", "less", "said"),
    [
        (Scope.EVERYDAY, Act.DESTROY, None, "destroy an instance"),
        (Scope.EVERYDAY, Act.MANAGE, None, "stop an instance"),
        (Scope.EVERYDAY, Act.CHANGE_KEYS, None, "change API keys"),
        (Scope.EVERYDAY, None, Act.LIST, "list instances"),
        (Scope.WORKING, Act.CHANGE_KEYS, None, "change API keys"),
        (Scope.WORKING, None, Act.CHARGES, "see what was charged"),
        (Scope.WORKING, None, Act.MANAGE, "stop an instance"),
    ],
)
def test_a_provider_that_does_not_hold_keys_to_their_rights_gets_no_wall(
    scope: Scope, more: Act | None, less: Act | None, said: str, tmp_path: Path
) -> None:
    wall = built(tmp_path)
    service = service_of(wall)
    service.rights[scope] = (service.rights[scope] | ({more} if more else set())) - {less}
    began = lying(wall)
    with pytest.raises(HarnessError, match=said):
        wall.lock()
    assert lying(wall) == began
    assert not service.keys
    assert (OWN, Act.DESTROY) not in service.tried


def test_destroying_is_tried_with_no_key_that_is_let_stop(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.standing()
    wall.lock()
    wall.standing()
    service = service_of(wall)
    dangerous = {key for key, act in service.tried if act is Act.DESTROY and Act.MANAGE in service.rights_of(key)}
    assert not dangerous
    assert "secret-100" in {key for key, act in service.tried if act is Act.DESTROY}


def test_a_wall_that_stood_and_does_not_hold_is_told_and_keeps_its_keys(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    service = service_of(wall)
    name, secret, rights = service.keys[100]
    service.keys[100] = (name, secret, rights | {Act.MANAGE})
    assert not all(place.holds for place in wall.standing())
    with pytest.raises(HarnessError, match="everyday key may stop"):
        wall.lock()
    assert set(service.keys) == {100, 101}
    wall.lock(anew=True)
    require_standing(wall)
    assert set(service.keys) == {102, 103}


def test_keys_that_were_deleted_in_the_console_are_made_anew(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    service_of(wall).keys.clear()
    assert not all(place.holds for place in wall.standing())
    wall.lock()
    require_standing(wall)


def test_keys_that_were_made_before_the_network_went_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wall = built(tmp_path)
    with monkeypatch.context() as while_it_is_away:

        def away(key: str, act: Act) -> bool:
            if key == OWN:
                return True
            raise ProviderUnavailable(f"no reply to {act}")

        while_it_is_away.setattr(service_of(wall), "may", away)
        with pytest.raises(ProviderUnavailable):
            wall.lock()
        assert set(service_of(wall).keys) == {100, 101}
    wall.lock()
    require_standing(wall)
    assert set(service_of(wall).keys) == {100, 101}


def test_keys_of_other_walls_and_people_stay(tmp_path: Path) -> None:
    wall = built(tmp_path)
    service_of(wall).keys[50] = ("gsh-everyday-0badf00d", "of another machine", RIGHTS[Scope.EVERYDAY])
    for command in COMMANDS.values():
        command(wall) if command is not COMMANDS["unlock"] else None
    wall.unlock()
    assert set(service_of(wall).keys) == {50}


def test_a_new_own_key_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    service = service_of(wall)
    service.owners = {"newer": ACCOUNT}  # the old one was reset in the console
    with pytest.raises(BadInput):
        wall.unlock()
    assert "secret-100" in lying(wall).values(), "nothing was taken away for a key that does not work any more"
    (tmp_path / "user" / "config" / "key").write_text("newer")
    wall.lock()
    assert all(place.holds for place in wall.standing())
    wall.unlock()
    assert lying(wall)[str(tmp_path / "user" / "config" / "key")] == "newer"
    assert not service.keys


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_key_of_another_account_changes_nothing(command: str, tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    service = service_of(wall)
    service.owners["another"] = ACCOUNT + 1
    service.environ["SERVICE_KEY"] = "another"
    kept, keys = wall.store.path.read_bytes(), dict(service.keys)
    with pytest.raises(BadInput, match="account"):
        COMMANDS[command](wall)
    assert (wall.store.path.read_bytes(), service.keys) == (kept, keys)
    assert working_key(wall.store, SERVER, "another") is None, "a key that somebody chose is used"


@pytest.mark.parametrize("command", ["lock", "rotate"])
@pytest.mark.parametrize("key", [None, "nobody's", "scoped"])
def test_without_a_key_that_can_make_others_nothing_begins(key: str | None, command: str, tmp_path: Path) -> None:
    wall = built(tmp_path, key=key)
    service_of(wall).keys[50] = ("scoped", "scoped", RIGHTS[Scope.EVERYDAY])
    with pytest.raises(BadInput):
        COMMANDS[command](wall)
    assert not wall.store.path.exists()


def test_a_strange_key_in_a_place_is_not_overwritten_by_unlock(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    (tmp_path / "user" / ".legacy").write_text("stranger")
    with pytest.raises(BadInput, match="legacy"):
        wall.unlock()
    assert len(service_of(wall).keys) == 2
    (tmp_path / "user" / ".legacy").unlink()
    wall.unlock()


def test_a_key_that_came_to_lie_elsewhere_since_is_kept_for_unlock(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    session = tmp_path / "user" / "config" / "session"
    session.write_text("two-factor")
    wall.lock()
    assert not session.exists()
    wall.unlock()
    assert session.read_text() == "two-factor"


@pytest.mark.parametrize(
    ("found", "server", "used"),
    [
        ("secret-100", SERVER, "secret-101"),
        (None, SERVER, "secret-101"),
        (OWN, SERVER, "secret-101"),
        ("chosen", SERVER, None),
        ("secret-100", "https://elsewhere.example", None),
        (None, "https://elsewhere.example", None),
    ],
)
def test_the_kept_key_goes_to_its_own_server_and_before_no_choice(
    found: str | None, server: str, used: str | None, tmp_path: Path
) -> None:
    wall = built(tmp_path)
    assert working_key(wall.store, server, found) is None
    wall.lock()
    assert working_key(wall.store, server, found) == used


def test_one_process_at_a_time(tmp_path: Path) -> None:
    wall = built(tmp_path)
    with wall._alone(), pytest.raises(Conflict):
        wall.lock()


def test_leftovers_of_a_killed_write_are_swept(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    left = [
        tmp_path / "user" / "config" / ".key.0badf00d.part",
        wall.store.path.with_name(".service.json.0badf00e.part"),
    ]
    for path in left:
        path.write_text("a whole key")
    wall.lock()
    assert not any(path.exists() for path in left)


# --- where it is kept -------------------------------------------------------------------------


def test_the_keyring_holds_the_keys_and_the_home_none(tmp_path: Path, keyring: dict[tuple[str, str], str]) -> None:
    wall = built(tmp_path)
    wall.lock()
    ((service, _),) = keyring
    assert service == SERVICE
    text = "".join(path.read_text() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert "secret" not in text
    assert OWN not in text
    assert "keyring (in memory)" in wall.standing()[0].seen
    wall.unlock()
    assert not keyring


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_without_a_keyring_it_is_a_file_of_the_owners_and_that_is_said(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    key_file = tmp_path / "user" / "config" / "key"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (wall.store.path, key_file)] == [0o600, 0o600]
    assert stat.S_IMODE(wall.store.path.parent.stat().st_mode) == 0o700
    assert "no keyring" in wall.standing()[0].seen
    assert str(wall.store.path) in wall.standing()[0].seen


def test_a_keyring_that_keeps_nothing_is_none(
    tmp_path: Path, keyring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["keyring"], "set_password", lambda *_: None)
    wall = built(tmp_path)
    wall.lock()
    assert not keyring
    require_standing(wall)


def test_a_keyring_that_comes_later_takes_the_keys_out_of_the_file(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wall = built(tmp_path)
    wall.lock()
    entries = request.getfixturevalue("keyring")
    wall.lock()
    assert len(entries) == 1
    assert "secret" not in wall.store.path.read_text()
    require_standing(wall)


def test_a_keyring_that_does_not_open_is_told_and_no_other_key_used(
    tmp_path: Path, keyring: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = built(tmp_path)
    wall.lock()
    kept = dict(keyring)

    def locked(*_: str) -> str:
        raise OSError("locked")

    monkeypatch.setattr(sys.modules["keyring"], "get_password", locked)
    for use in (lambda: working_key(wall.store, SERVER, "secret-100"), wall.lock, wall.unlock, wall.standing):
        with pytest.raises(BadInput, match="keyring"):
            use()
    assert keyring == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"x"',
        "{}",
        '{"kept": "file"}',
        '{"kept": "file", "text": "secret-1"}',
        '{"kept":"file","text":"{}"}',
    ],
)
def test_a_file_that_does_not_read_is_told_without_what_is_in_it(text: str, tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.store.path.parent.mkdir(parents=True)
    wall.store.path.write_text(text)
    with pytest.raises(BadInput) as told:
        working_key(wall.store, SERVER, None)
    assert str(wall.store.path) in f"{told.value} {told.value.remedy}"
    assert "secret-1" not in f"{told.value} {told.value.remedy} {told.value.__cause__} "


def test_printing_what_is_kept_shows_no_key(tmp_path: Path) -> None:
    wall = built(tmp_path)
    wall.lock()
    record = read_record(wall.store)
    shown = f"{record!r} {record} {wall.issuer.places()!r}"
    assert OWN not in shown
    assert "secret-" not in shown
    assert json.loads(wall.store.path.read_text())["kept"] == "file"


def test_each_scope_is_tried_for_what_it_is_for() -> None:
    """Reading and being refused is the everyday key's whole point; the other must work and make no keys."""
    assert {Act.MANAGE, Act.DESTROY, Act.CHANGE_KEYS} <= set(REFUSED[Scope.EVERYDAY])
    assert Act.CHANGE_KEYS in REFUSED[Scope.WORKING]
    assert all(not set(ALLOWED[scope]) & set(REFUSED[scope]) for scope in Scope)
