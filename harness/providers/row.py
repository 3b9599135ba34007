"""A provider's JSON, typed. What does not read as expected is an error, never a default. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.errors import ProviderUnavailable
from harness.core.text import printable

_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")


@dataclass(frozen=True, slots=True)
class Row:
    """A JSON object read field by field; ``what`` names it in errors. Raises ProviderUnavailable on odd fields."""

    what: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, what: str, value: object) -> Row:
        """A row, when the value is a JSON object."""
        if not isinstance(value, Mapping):
            raise ProviderUnavailable(f"{what} is a {type(value).__name__}, not a JSON object")
        return cls(what, value)

    def number(self, name: str) -> float:
        """A finite number; the provider also sends numbers as strings."""
        number = self.number_or_none(name)
        if number is None:
            raise self.odd(name, "a number")
        return number

    def number_or_none(self, name: str) -> float | None:
        """A finite number, or None for null and for a missing field."""
        value = self.fields.get(name)
        if value is None:
            return None
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise self.odd(name, "a number")
        return number

    def price_or_none(self, name: str) -> float | None:
        """A price that is told beside the row's own matter: None, not an error, where it reads oddly."""
        try:
            price = self.number_or_none(name)
        except ProviderUnavailable:
            return None
        return price if price is not None and price >= 0 else None

    def whole(self, name: str) -> int:
        """A whole number that is not negative."""
        value = self.fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            number = value  # not through a float, which cannot tell large ids apart
        else:
            number = int(self.number(name))
            if number != self.number(name):
                raise self.odd(name, "a whole number")
        if number < 0:
            raise self.odd(name, "a whole number")
        return number

    def identifier(self, name: str) -> int:
        """A positive whole number."""
        number = self.whole(name)
        if number == 0:
            raise self.odd(name, "an id")
        return number

    def text(self, name: str) -> str:
        """A string; empty for null and for a missing field."""
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.odd(name, "text")
        return value.strip()

    def items(self, name: str) -> list[Any]:
        """A list, which must be there."""
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise self.odd(name, "a list")
        return value

    def odd(self, name: str, expected: str) -> ProviderUnavailable:
        """The error for a field that is not what it should be."""
        found = printable(repr(self.fields[name]), 80) if name in self.fields else "missing"
        return ProviderUnavailable(f"{self.what}: {name} is {found}, not {expected}")

    def host(self, name: str) -> str:
        """The name or address of a machine."""
        text = self.text(name)
        if not _HOST.fullmatch(text):
            raise ProviderUnavailable(f"{self.what}: {printable(repr(text), 80)} is not a host")
        return text

    def port(self, name: str) -> int:
        """A port; the highest is left out, for that of a proxy may be one less than the one that is meant."""
        port = self.whole(name)
        if not 0 < port < 65535:
            raise self.odd(name, "a port")
        return port
