"""A wall in the place of a fence: the key that lies about is one that the provider itself lets destroy nothing.

The person's own key, the everyday key and the key that the harness works with are one record in a ``KeyStore``. It is
written before every step at the provider and after it, and every step can be repeated: killed anywhere, the same
command goes on. The own key is taken from its place last, when both new keys were seen to do what they should.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from harness.core import durable
from harness.core.canonical import canonical
from harness.core.errors import BadInput, Conflict, HarnessError
from harness.core.ids import new_nonce
from harness.providers.keeping import KeyStore
from harness.providers.scoped_keys import ALLOWED, REFUSED, Act, KeyIssuer, KeyPlace, Scope, ScopedKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An everyday key and a working key that were made together; the nonce is in their names at the provider."""

    nonce: str
    everyday: ScopedKey | None = None
    working: ScopedKey | None = None
    proven: bool = False

    def name(self, scope: Scope) -> str:
        """The name of one of the two at the provider."""
        return f"gsh-{scope}-{self.nonce}"

    def names(self) -> frozenset[str]:
        """The names of both."""
        return frozenset(self.name(scope) for scope in Scope)

    def with_key(self, scope: Scope, key: ScopedKey) -> KeyPair:
        """The pair with another key of a scope, which is still to be proven."""
        if scope is Scope.EVERYDAY:
            return replace(self, everyday=key, proven=False)
        return replace(self, working=key, proven=False)

    def made(self) -> tuple[ScopedKey, ...]:
        """Those that were made so far."""
        return tuple(key for key in (self.everyday, self.working) if key is not None)


@dataclass(frozen=True, slots=True)
class WallRecord:
    """All that a wall consists of. ``before``: what lay in each file (by its path) when the wall was built."""

    server: str
    account: int
    own: str = field(repr=False)
    before: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    pairs: tuple[KeyPair, ...] = ()

    def everyday(self) -> frozenset[str]:
        """Every everyday key that this wall has put out."""
        return frozenset(pair.everyday.secret for pair in self.pairs if pair.everyday)

    def working(self, found: str | None) -> str | None:
        """The key to work with where ``found`` is what would be used; None where that is somebody's own choice."""
        if found is not None and found != self.own and found not in self.everyday():
            return None
        proven = [pair for pair in self.pairs if pair.proven]
        own_pair = [pair for pair in proven if pair.everyday and pair.everyday.secret == found]
        chosen = (own_pair or proven)[-1:]
        return chosen[0].working.secret if chosen and chosen[0].working else None


def read_record(store: KeyStore) -> WallRecord | None:
    """The wall that is kept; None when there is none. Raises BadInput when it does not read."""
    text = store.load()
    if text is None:
        return None
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - only where there is a wall

    try:
        return TypeAdapter(WallRecord).validate_json(text)
    except ValidationError:
        raise BadInput(
            f"the keys that are kept {store.told()} do not read as this version writes them",
            remedy=f"Use the version that built the wall, or move {store.path} away and put your own key in its place.",
        ) from None  # the error would show them


def working_key(store: KeyStore, server: str, found: str | None) -> str | None:
    """The kept key, where it is for this server and ``found`` is no key that somebody chose; else None."""
    record = read_record(store)
    return record.working(found) if record is not None and record.server == server else None


@dataclass(frozen=True, slots=True)
class WallPart:
    """A place and what its key can do; ``holds`` is False for a gap in the wall."""

    told: str
    seen: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Wall:
    """The wall of one provider's account on this machine."""

    issuer: KeyIssuer
    store: KeyStore

    def lock(self, *, anew: bool = False) -> None:
        """Build it, go on building it, or prove that it stands; ``anew``: with new keys, the old ones deleted.

        Raises BadInput for a key that cannot make others, HarnessError when the provider's keys do not hold.
        """
        with self._alone():
            record = self._with_owner(read_record(self.store))
            if not record.pairs or (anew and self._finished(record)):
                record = replace(record, pairs=(*record.pairs, KeyPair(new_nonce())))
            record = self._issued(self._saved(record))
            self._prove(record)
            record = self._saved(_with_last(record, replace(record.pairs[-1], proven=True)))
            record = self._saved(self._remembering(record))
            self._put_out(record)
            for pair in record.pairs[:-1]:
                self._revoke(record, pair)
            self._saved(replace(record, pairs=record.pairs[-1:]))

    def unlock(self) -> None:
        """Put the own key back where it was and delete the others. Raises BadInput when there is no wall."""
        with self._alone():
            record = read_record(self.store)
            if record is None:
                raise BadInput("there is no wall here: your own key is where you put it", remedy="harness guard status")
            record = self._saved(self._with_owner(record))
            self.issuer.named(record.own)  # the own key is seen to work before anything is taken away
            self._put_back(record)
            open_now = tuple(replace(pair, proven=False) for pair in record.pairs)
            record = self._saved(replace(record, pairs=open_now))  # from here on the harness takes the own key, too
            for pair in record.pairs:
                self._revoke(record, pair)
            self.store.forget()

    def standing(self) -> tuple[WallPart, ...]:
        """Every place where a key is looked for, tried at the provider, and the kept key. Nothing is changed."""
        record = read_record(self.store)
        if record is None or not record.pairs[-1:] or not record.pairs[-1].proven:
            begun = "begun and not finished: harness guard lock goes on" if record else "none: harness guard lock"
            kept = WallPart("wall", begun, holds=False)
        else:
            kept = self._of_kept(record)
        return (kept, *(self._of_place(place, record) for place in self.issuer.places()))

    def _of_kept(self, record: WallRecord) -> WallPart:
        pair = record.pairs[-1]
        missing = [act for act in ALLOWED[Scope.WORKING] if not self.issuer.may(_secret(pair.working), act)]
        seen = f"{pair.name(Scope.WORKING)}, {self.store.told()}"
        if missing:
            seen += f"; the provider refuses it to {', '.join(missing)}: harness guard lock makes another"
        return WallPart("the harness's key", seen, holds=not missing)

    def _of_place(self, place: KeyPlace, record: WallRecord | None) -> WallPart:
        if not place.key:
            return WallPart(place.told, "no key", holds=True)
        if not self.issuer.may(place.key, Act.LIST):
            return WallPart(place.told, "a key that the provider does not accept", holds=True)
        known = record is not None and place.key in record.everyday()
        name = "the everyday key" if known else "a key of yours"
        for act in REFUSED[Scope.EVERYDAY]:
            if self.issuer.may(place.key, act):
                return WallPart(place.told, f"{name}, which may {act}", holds=False)
        return WallPart(place.told, f"{name}: it reads, and is refused to destroy", holds=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time."""
        self.store.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with durable.sole_writer(self.store.path) as alone:
            if not alone:
                raise Conflict("another process is changing the keys now", remedy="Wait until it has ended.")
            yield

    def _saved(self, record: WallRecord) -> WallRecord:
        self.store.save(canonical(asdict(record)).decode())
        return record

    def _with_owner(self, record: WallRecord | None) -> WallRecord:
        """The record with the own key: the one that is found, when it is none of the wall's; else the one it has."""
        places = self.issuer.places()
        first = next((place for place in places if place.key), None)
        if record is not None and record.server != self.issuer.server:
            raise BadInput(
                f"the wall is for the account at {record.server}, and this is {self.issuer.server}",
                remedy="Set the address that it was built with, or unset it.",
            )
        known = set() if record is None else {record.own, *(key.secret for pair in record.pairs for key in pair.made())}
        if first is None or first.key is None:
            if record is None:
                raise BadInput("no key was found to make others with", remedy=_OWN_KEY)
            return record
        if first.key in known and record is not None:
            return record
        if not self.issuer.may(first.key, Act.LIST):
            raise BadInput(f"the provider does not accept the key in {first.told}", remedy=_OWN_KEY)
        account = self.issuer.account(first.key)
        if record is None:
            return WallRecord(self.issuer.server, account, first.key, {str(p.path): p.key for p in places if p.path})
        if account != record.account:
            raise BadInput(
                f"the key in {first.told} is of account {account}, the wall is for account {record.account}",
                remedy=f"Take the key out of {first.told}; then harness guard unlock ends the wall of that account.",
            )
        return self._remembering(replace(record, own=first.key))

    def _remembering(self, record: WallRecord) -> WallRecord:
        """The record with every key that has come to lie in a file since."""
        came = {
            str(place.path): place.key
            for place in self.issuer.places()
            if place.path and place.key and place.key not in record.everyday()
        }
        return replace(record, before={**record.before, **came})

    def _finished(self, record: WallRecord) -> bool:
        first = next(place for place in self.issuer.places() if place.path)
        everyday = record.pairs[-1].everyday
        return len(record.pairs) == 1 and everyday is not None and everyday.secret == first.key

    def _issued(self, record: WallRecord) -> WallRecord:
        """The record with both keys of the last pair, each saved as soon as it is there; those that got lost go."""
        pair = record.pairs[-1]
        known = {key.id for key in pair.made()}
        for number, name in self.issuer.named(record.own).items():
            if name in pair.names() and number not in known:
                self.issuer.revoke(record.own, number)  # made, and its reply was lost: nobody has that key
        for scope in Scope:
            key: ScopedKey | None = getattr(pair, scope)
            if key is None or not self.issuer.may(key.secret, Act.LIST):
                pair = pair.with_key(scope, self.issuer.issue(record.own, scope, pair.name(scope)))
                record = self._saved(_with_last(record, pair))
        return record

    def _prove(self, record: WallRecord) -> None:
        """Try both keys; raises HarnessError, with a new pair deleted again, when one does not do what it should."""
        pair = record.pairs[-1]
        for scope in Scope:
            secret = _secret(getattr(pair, scope))
            wrong = next(
                (f"lacks the right to {act}" for act in ALLOWED[scope] if not self.issuer.may(secret, act)), None
            ) or next((f"may {act}" for act in REFUSED[scope] if self.issuer.may(secret, act)), None)
            if wrong is None:
                continue
            if pair.proven:
                raise HarnessError(f"the {scope} key {wrong}", remedy="harness guard rotate makes new keys.")
            self._revoke(record, pair)
            self._saved(replace(record, pairs=record.pairs[:-1]))
            raise HarnessError(
                f"the new {scope} key {wrong}: the provider does not hold it to its rights",
                remedy="The new keys are deleted, nothing else was changed. harness guard unlock forgets the attempt.",
            )

    def _put_out(self, record: WallRecord) -> None:
        """Put the everyday key into the first file, and take the keys out of the others, which would come before it."""
        everyday = _secret(record.pairs[-1].everyday)
        first, *others = _files(self.issuer.places())
        _write_key(first, everyday)
        for path in others:
            durable.remove(path)

    def _put_back(self, record: WallRecord) -> None:
        places = [place for place in self.issuer.places() if place.path]
        for place in places:
            if place.key not in {None, "", record.own, record.before.get(str(place.path)), *record.everyday()}:
                raise BadInput(
                    f"{place.told} holds a key that is not the wall's", remedy="Move it away and run the same again."
                )
        back = {place.path: record.before.get(str(place.path)) for place in places if place.path}
        if record.own not in back.values():  # it came from the environment: nowhere else is it written down
            back[next(iter(back))] = record.own
        for path, key in back.items():
            if key is None:
                durable.remove(path)
            else:
                _write_key(path, key)

    def _revoke(self, record: WallRecord, pair: KeyPair) -> None:
        named = {number for number, name in self.issuer.named(record.own).items() if name in pair.names()}
        for number in sorted(named | {key.id for key in pair.made()}):
            self.issuer.revoke(record.own, number)


_OWN_KEY = "Give your own key, unset what comes before it, and run the same command again."


def _files(places: tuple[KeyPlace, ...]) -> tuple[Path, ...]:
    return tuple(place.path for place in places if place.path)


def _write_key(path: Path, key: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    durable.write(path, key.encode(), mode=0o600)


def _secret(key: ScopedKey | None) -> str:
    if key is None:
        raise HarnessError("a key of the wall is missing", remedy="harness guard lock goes on building it.")
    return key.secret


def _with_last(record: WallRecord, pair: KeyPair) -> WallRecord:
    return replace(record, pairs=(*record.pairs[:-1], pair))
