"""Rules on facts that market data states: the pair, the day, the order of training and evaluation. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from operator import contains
from typing import Final

from harness.artifacts.dataset.rows import Defect
from harness.artifacts.dataset.texts import Texts

CURRENCIES: Final = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD
    CAD CDF CHF CLP CNH CNY COP CRC CUP CVE CYP CZK DEM DJF DKK DOP DZD EEK EGP ERN ETB EUR FJD FKP FRF
    GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK ITL JMD JOD JPY KES KGS
    KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LTL LVL LYD MAD MDL MGA MKD MMK MNT MOP MRU MTL MUR
    MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR ROL RON RSD RUB RWF
    SAR SBD SCR SDG SEK SGD SHP SIT SKK SLE SOS SRD SSP STN SYP SZL THB TJS TMT TND TOP TRL TRY TTD TWD
    TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XAG XAU XCD XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 - a table is read as one
)
"""ISO 4217 codes; with CNH, gold and silver as markets quote them, and those of the ECB's series since 1999."""

_PAIR: Final = re.compile(r"\b([A-Z]{3})/?([A-Z]{3})\b")


def pair_problem(name: str) -> str | None:
    """Reason why a pair's name (``EURUSD`` or ``EUR/USD``) is wrong, or None."""
    letters = name.replace("/", "", 1)
    base, quote = letters[:3], letters[3:]
    if len(letters) != 6 or base not in CURRENCIES or quote not in CURRENCIES or base == quote:
        return f"{name[:40]!r} is not a cross of two currencies"
    return None


def judge_pairs(file: Texts) -> Iterator[Defect]:
    """Pairs that are none, and prompts that speak of another pair than their row names."""
    pairs = file.column("pair")
    if pairs is None:
        return
    wrong = {name: problem for name in set(pairs) if (problem := pair_problem(name)) is not None}
    if wrong:
        yield from (file.defect(row, "wrong_pair", wrong[name]) for row, name in enumerate(pairs) if name in wrong)
    yield from _other_pairs(file, pairs, set(wrong))


def judge_dates(training: Sequence[Texts], evaluation: Sequence[Texts]) -> Iterator[Defect]:
    """Days that are none; evaluation rows that are not later than every training row."""
    newest = ""
    for file in (*training, *evaluation):
        days = file.column("date")
        if days is None:
            continue
        distinct = set(days)
        wrong = _no_days(distinct)
        if wrong:
            yield from (
                file.defect(row, "date", "not a day, YYYY-MM-DD") for row, day in enumerate(days) if day in wrong
            )
        elif file in training and days:
            newest = max(newest, *distinct)
    for file in evaluation:
        days = file.column("date")
        if days is None or not newest:
            detail = "without a date in every row nobody can tell whether evaluation is later than training"
            yield Defect(file.source.name, 0, "time_order", detail)
            continue
        for row, day in enumerate(days):
            if day <= newest:
                yield file.defect(row, "time_order", f"{day} is not after the newest training row, {newest}")


def _other_pairs(file: Texts, pairs: Sequence[str], wrong: set[str]) -> Iterator[Defect]:
    if all(map(contains, file.prompts, pairs)):
        return
    crossed = {name: f"{name[:3]}/{name[-3:]}" for name in set(pairs) - wrong}
    elsewhere = [
        row
        for row, (prompt, name) in enumerate(zip(file.prompts, pairs, strict=True))
        if name in crossed and name not in prompt and crossed[name] not in prompt
    ]
    for row in elsewhere:
        match = _PAIR.search(file.prompts[row])
        if match is not None and match[1] in CURRENCIES and match[2] in CURRENCIES:
            yield file.defect(row, "wrong_pair", f"the row is of {pairs[row]}, its prompt speaks of {match[0]}")


def _no_days(values: set[str]) -> set[str]:
    try:
        if set(map(len, values)) <= {10}:
            all(map(date.fromisoformat, values))  # every day is true: this reads them all
            return set()
    except ValueError:
        pass  # at least one is none: look at each
    return {value for value in values if not _is_day(value)}


def _is_day(value: str) -> bool:
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return len(value) == 10
