"""What the emulated service remembers, and how it is written down: one JSON file, replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.core import durable
from harness.core.errors import BadInput
from harness.core.ids import new_secret
from harness.core.ports import InstanceStatus, Json
from harness.emulator.ledger import Entry, Ledger
from harness.emulator.market import Ask
from harness.emulator.rental import AttachedKey, Rental

VERSION = 1
FIRST_ID = 24_000_001
_NAME = "emulator.json"


@dataclass(frozen=True, slots=True)
class Volume:
    """Storage that is billed apart and survives the instance it was made with. Size in GB, price in USD per hour."""

    id: int
    machine_id: int
    name: str
    size_gb: float
    usd_per_hour: float
    created_at: float
    billed_until: float


@dataclass(slots=True)
class State:
    """Everything that outlives the process; changed only under the world's lock."""

    key: str = field(default_factory=new_secret)
    credit_given: float = 0.0
    broke_at: float | None = None
    asks: dict[int, Ask] = field(default_factory=dict)
    rentals: dict[int, Rental] = field(default_factory=dict)
    volumes: dict[int, Volume] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    account_keys: tuple[AttachedKey, ...] = ()
    audit: list[dict[str, Json]] = field(default_factory=list)
    faults: list[tuple[int, int]] = field(default_factory=list)
    last_id: int = FIRST_ID - 1
    last_key_id: int = 0

    def new_id(self) -> int:
        """The next contract's number; never given twice."""
        self.last_id += 1
        return self.last_id

    def new_key(self, public_key: str, now: float) -> AttachedKey:
        """Number an SSH key."""
        self.last_key_id += 1
        return AttachedKey(self.last_key_id, public_key, now)

    def users_of(self, volume_id: int) -> list[int]:
        """The instances in which a volume is mounted."""
        return [rental.id for rental in self.rentals.values() if rental.volume_id == volume_id]

    def credit(self) -> float:
        """USD left."""
        return self.credit_given - self.ledger.total()


def read(state_dir: Path) -> tuple[State, float] | None:
    """The state and the time it was written at, or None in a new directory. Raises BadInput when it cannot be used."""
    path = state_dir / _NAME
    try:
        data = json.loads(path.read_bytes())
        if not isinstance(data, dict) or data.get("version") != VERSION:
            raise BadInput(f"{path} was written by another version", remedy="Choose another --state directory.")
        return _state(data["state"]), float(data["now"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read: {error!r}", remedy="Choose another --state directory.") from None


def write(state_dir: Path, state: State, now: float) -> None:
    """Replace what was written; readable by its owner only, for it holds the API keys."""
    data = {
        "version": VERSION,
        "now": now,
        "state": {
            "key": state.key,
            "credit_given": state.credit_given,
            "broke_at": state.broke_at,
            "asks": [asdict(ask) for ask in state.asks.values()],
            "rentals": [asdict(rental) for rental in state.rentals.values()],
            "volumes": [asdict(volume) for volume in state.volumes.values()],
            "ledger": [asdict(entry) for entry in state.ledger.entries],
            "account_keys": [asdict(key) for key in state.account_keys],
            "audit": state.audit,
            "faults": state.faults,
            "last_id": state.last_id,
            "last_key_id": state.last_key_id,
        },
    }
    durable.write(state_dir / _NAME, json.dumps(data).encode(), mode=0o600)


def _state(data: Mapping[str, Any]) -> State:
    return State(
        **{
            **data,
            "asks": {row["id"]: Ask(**row) for row in data["asks"]},
            "rentals": {row["id"]: _rental(row) for row in data["rentals"]},
            "volumes": {row["id"]: Volume(**row) for row in data["volumes"]},
            "ledger": Ledger.of(Entry(**row) for row in data["ledger"]),
            "account_keys": tuple(AttachedKey(**row) for row in data["account_keys"]),
            "faults": [(seen, struck) for seen, struck in data["faults"]],
        }
    )


def _rental(row: Mapping[str, Any]) -> Rental:
    return Rental(
        **{
            **row,
            "ask": Ask(**row["ask"]),
            "status": InstanceStatus(row["status"]),
            "intended": InstanceStatus(row["intended"]),
            "held_at": InstanceStatus(row["held_at"]) if row["held_at"] else None,
            "keys": tuple(AttachedKey(**key) for key in row["keys"]),
        }
    )
