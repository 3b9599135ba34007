"""Search for words in the texts of a file, by way of the few pieces of text that its rows are made of. Pure.

Generated rows are a few templates with other numbers in them. So the costly patterns are not run over
every row, but over the distinct pieces of text that remain when the digits are taken out; only when a
loose search finds something in one of those are the rows searched one by one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property


class Pieces:
    """Pieces of text without digits and signs, looked at in lower case."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.lower = {piece: piece.lower() for piece in pieces}
        self._there: dict[bytes, bool] = {}

    @cached_property
    def whole(self) -> bytes:
        """All of them."""
        return b"\n".join(self.lower.values())

    def holding(self, keys: tuple[bytes, ...]) -> dict[bytes, bytes]:
        """Those that hold one of the keys."""
        for key in keys:
            if key not in self._there:
                self._there[key] = key in self.whole
        there = [key for key in keys if self._there[key]]
        return {piece: lower for piece, lower in self.lower.items() if any(key in lower for key in there)}


Exact = Callable[[str, str], re.Match[str] | None]


def anywhere(pattern: re.Pattern[str]) -> Exact:
    """The first place of a pattern, whatever was asked."""
    return lambda text, _asked: pattern.search(text)


@dataclass(frozen=True, slots=True)
class Search:
    """A search in a text, and a loose one that finds as much, or more, in its pieces.

    ``exact`` is given the text and what its row asks, for what a text may tell depends on that. One of the ``keys``,
    where there are any, stands in each piece in which the loose search finds something.
    """

    exact: Exact
    loose: re.Pattern[bytes]
    keys: tuple[bytes, ...] = ()

    def suspect(self, pieces: Pieces) -> frozenset[bytes]:
        """The pieces in which the exact search may find something."""
        worth_it = pieces.holding(self.keys) if self.keys else pieces.lower
        return frozenset(piece for piece, lower in worth_it.items() if self.loose.search(lower))
