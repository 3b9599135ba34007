"""Size that a model file must exceed which is brought home by its address, where no job file says it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.artifacts import gguf, quantizations
from harness.job import profiles

SMALLER: Final = (
    "Without a job file the floors are those of the first user's 7B model. A model that is meant to have another size: "
    "say what it must exceed, --over SIZE (-Over of the script), such as --over 150kB."
)


@dataclass(frozen=True, slots=True)
class Floor:
    """Bytes that a file must exceed, None when no floor is known; ``told`` is where that comes from."""

    over_bytes: int | None
    told: str


def floor_of(file: Path, name: str) -> Floor:
    """The floor of the quantization that a file states, or of the one in its name; of two different ones the larger."""
    known = profiles.floors()
    stated = None
    with contextlib.suppress(gguf.GgufError, OSError):
        number = gguf.parse(file).metadata.get("general.file_type")
        stated = next((one.name for one in quantizations.TABLE if one.file_type == number), None)
    named = [one for one in known if one.lower() in name.lower()]
    floors = [(known[one], one) for one in (stated, *named) if one is not None and one in known]
    if not floors:
        return Floor(None, f"no floor is known for {stated or 'a file that states no quantization'}")
    over, quantization = max(floors)
    return Floor(over, f"the floor of {quantization} for the 7B model")
