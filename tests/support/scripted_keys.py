"""An account's keys in memory: who may make others, what was made, what went wrong at which of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.core.errors import BadInput
from harness.core.ids import InstanceId
from harness.providers.scoped_keys import Act, KeyedRequest, KeyPlace, Scope, ScopedKey

OWN = "own"
SECRET = "s3cret-of-the-box"


@dataclass(slots=True)
class ScriptedKeys:
    """A ``StopKeyIssuer``. ``breaks`` is called before every act that changes something, with its name."""

    known: dict[int, str] = field(default_factory=dict)
    makes_keys: bool = True
    place: str | None = OWN
    breaks: Callable[[str], None] = lambda _: None
    issued: int = 0
    server: str = "https://vast.example"
    limits: tuple[str, ...] = ()

    def places(self) -> tuple[KeyPlace, ...]:
        return (KeyPlace("VAST_API_KEY", None, self.place),)

    def account(self, by: str) -> int:
        del by
        return 7

    def issue(self, by: str, scope: Scope, name: str) -> ScopedKey:
        raise NotImplementedError

    def named(self, by: str) -> Mapping[int, str]:
        self._require(by)
        return dict(self.known)

    def revoke(self, by: str, key_id: int) -> None:
        self._require(by)
        self.breaks("revoke")
        self.known.pop(key_id, None)

    def may(self, key: str, act: Act) -> bool:
        return key == OWN and (self.makes_keys or act is not Act.CHANGE_KEYS)

    def issue_stop_key(self, by: str, instance_id: InstanceId, name: str) -> ScopedKey:
        del instance_id
        self._require(by)
        self.breaks("issue")
        self.issued += 1
        number = 100 + self.issued
        self.known[number] = name
        self.breaks("issued")
        return ScopedKey(number, f"{SECRET}-{number}")

    def stop_request(self, instance_id: InstanceId) -> KeyedRequest:
        return KeyedRequest("PUT", f"{self.server}/instances/{instance_id}/", {"state": "stopped"})

    @property
    def trial(self) -> KeyedRequest:
        return self.stop_request(InstanceId(2**31 - 1))

    def _require(self, by: str) -> None:
        if by != OWN or not self.makes_keys:
            raise BadInput("the key that was found may not make keys", remedy="Put a key with all rights in its place.")
