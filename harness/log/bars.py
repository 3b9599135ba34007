"""A trainer's own progress bar, and its banner: how many steps it has done, and of how many. Pure.

``tqdm`` draws ``  31%|###1      | 331/1063 [01:06<03:59,  3.06it/s]`` again and again. A bar of the training has no
words in front of it, or torchtune's ``1|331|Loss: 0.85:``; those of downloads, of shards and of maps have some.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

FLEETING: Final = r"^[^|]*[0-9]%\|[^|]*\| *[0-9]+/[0-9]+ \[[^\]]*\]\s*$"
"""Found in a line that is a progress bar and no more: of many in a row only the first and the last are of use."""

CUES: Final = r"t/s\]|s/it\]|otal (?:optimization )?steps ="
"""Found in every line that ``of_line`` or ``announced`` reads."""

_BAR: Final = re.compile(
    r"^\s*(?:(\d{1,6})\|(\d{1,12})\|Loss: ([-+.\w]{1,40}):)?\s*\d{1,3}%\|[^|]*\|\s*"
    r"(\d{1,12})/(\d{1,12}) \[([^\]]*)\]"
)
_PACE: Final = re.compile(r"([\d.]{1,20})(s/it|it/s)")
_BANNER: Final = re.compile(r"[Tt]otal (?:optimization )?steps = (\d{1,3}(?:,\d{3})*|\d{1,12})(?![\d,])")


@dataclass(frozen=True, slots=True)
class Drawn:
    """One drawing of a bar: steps done, of how many, and seconds a step (nan where it tells none).

    ``epoch`` and ``loss`` are those that torchtune writes in front of its bar, which counts the steps of one epoch.
    """

    step: int
    total: int
    s_per_step: float
    loss: float | None = None
    epoch: int | None = None


def of_line(line: str) -> Drawn | None:
    """The training's bar with which a clean line begins; None for another line."""
    if "%|" not in line or (found := _BAR.match(line)) is None:
        return None
    pace = math.nan
    if (drawn := _PACE.search(found[6])) is not None and (told := _number(drawn[1])):
        pace = told if drawn[2] == "s/it" else 1 / told
    if found[2] is None:
        return Drawn(int(found[4]), int(found[5]), pace)
    return Drawn(int(found[2]), int(found[5]), pace, _number(found[3]), int(found[1]))


def announced(line: str) -> int | None:
    """Steps that a banner announces (transformers' ``Total optimization steps =``, Unsloth's ``Total steps =``)."""
    found = _BANNER.search(line)
    return int(found[1].replace(",", "")) if found else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
