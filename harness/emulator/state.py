"""State of the emulated service, and its file: JSON, replaced as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, ValidationError

from harness.core import durable
from harness.core.errors import BadInput
from harness.core.ids import new_secret
from harness.core.text import misfits
from harness.emulator.charges import Charges
from harness.emulator.market import Ask
from harness.emulator.permissions import ApiKey
from harness.emulator.rental import AttachedKey, PriceIncrease, RentedInstance
from harness.emulator.template import Template

FIRST_ID = 24_000_001
FIRST_KEY_ID = 1
"""Number of the API key that the account begins with."""
_NAME = "emulator.json"
_BY_ID = BeforeValidator(lambda rows: {row["id"]: row for row in rows})
_AS_ROWS = PlainSerializer(lambda known: list(known.values()))
_OF_ENTRIES = BeforeValidator(lambda rows: {"entries": rows})
_AS_ENTRIES = PlainSerializer(lambda charges: charges.entries)


@dataclass(frozen=True, slots=True)
class RentedVolume:
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
    asks: Annotated[dict[int, Ask], _BY_ID, _AS_ROWS] = field(default_factory=dict)
    rentals: Annotated[dict[int, RentedInstance], _BY_ID, _AS_ROWS] = field(default_factory=dict)
    volumes: Annotated[dict[int, RentedVolume], _BY_ID, _AS_ROWS] = field(default_factory=dict)
    charges: Annotated[Charges, _OF_ENTRIES, _AS_ENTRIES, Field(alias="ledger")] = field(default_factory=Charges)
    scoped_keys: Annotated[dict[int, ApiKey], _BY_ID, _AS_ROWS] = field(default_factory=dict)
    account_keys: tuple[AttachedKey, ...] = ()
    secrets: dict[str, str] = field(default_factory=dict)
    templates: Annotated[dict[int, Template], _BY_ID, _AS_ROWS] = field(default_factory=dict)
    increases: Annotated[dict[int, PriceIncrease], _BY_ID, _AS_ROWS] = field(default_factory=dict)
    audit: list[dict[str, Any]] = field(default_factory=list)
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

    def api_keys(self) -> dict[int, ApiKey]:
        """Every API key of the account by its number."""
        return {FIRST_KEY_ID: ApiKey(FIRST_KEY_ID, self.key, "default")} | self.scoped_keys

    def users_of(self, volume_id: int) -> list[int]:
        """The instances in which a volume is mounted."""
        return [rental.id for rental in self.rentals.values() if rental.volume_id == volume_id]

    def credit(self) -> float:
        """USD left."""
        return self.credit_given - self.charges.total()


def _whole(data: Any) -> Any:
    if not isinstance(data, dict) or not {"key", "asks", "rentals", "volumes", "ledger"} <= data.keys():
        raise ValueError("the state is not whole")  # its defaults are a new service's
    return data


@dataclass(frozen=True, slots=True)
class _Written:
    """The file: the state, and the emulator's time at which it was written (seconds since the epoch)."""

    version: Literal[1]
    now: float
    state: Annotated[State, BeforeValidator(_whole)]


_FILE = TypeAdapter(_Written)


def read(state_dir: Path) -> tuple[State, float] | None:
    """The state and the time it was written at, or None in a new directory. Raises BadInput when it cannot be used."""
    path = state_dir / _NAME
    try:
        written = _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:  # its own words would show what was read, the API keys among it
        reason = "; ".join(misfits(error))
    except (OSError, LookupError, TypeError) as error:
        reason = repr(error)
    else:
        return written.state, written.now
    raise BadInput(f"{path} cannot be read: {reason[:300]}", remedy="Choose another --state directory.")


def write(state_dir: Path, state: State, now: float) -> None:
    """Replace what was written; readable by its owner only, for it holds the API keys."""
    durable.write(state_dir / _NAME, _FILE.dump_json(_Written(1, now, state), by_alias=True), mode=0o600)
