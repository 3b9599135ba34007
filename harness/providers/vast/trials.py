"""Trials of what only Vast.ai's adapter knows: what is on the wire below the port. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.core.errors import NoAnswer, ProviderUnavailable
from harness.core.ids import new_secret
from harness.core.ports import Clock, InstanceStatus, OfferQuery
from harness.core.text import printable
from harness.providers.assumptions import NEVER, Bench, CannotTry, Found, Phase, Subject, Trial
from harness.providers.rate_limits import Lane, Pace, Patience
from harness.providers.row import Row
from harness.providers.scoped_keys import Scope
from harness.providers.vast import offers
from harness.providers.vast.assumptions import ASSUMPTIONS
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.keys import VastKeyIssuer
from harness.providers.vast.provider import GONE, VastProvider
from harness.providers.wire import Call, Wire

GPUS = ("RTX 3060", "RTX 3070", "RTX 3080", "RTX 3090", "RTX 4060 Ti", "RTX 4070", "RTX 4090", "RTX A4000", "Tesla T4")
IMAGE = "ubuntu:22.04"
"""Small, so that little of the budget goes into its way to the host, which is billed."""

_RUNS_S = 600.0
_WORDS = frozenset(one.value for one in InstanceStatus if one is not InstanceStatus.PROVISIONING)
_ANY = OfferQuery((*GPUS, *offers.FAMILIES), 1, 10.0, 100.0)
_PRICE_SHARE = 0.01
_CALLS = 4


def subject(credentials: Credentials, clock: Clock, issuer: VastKeyIssuer, pace: Pace, name: str = "vast") -> Subject:
    """Vast.ai behind a key: what is believed of it, and what tries it."""
    wire = _Wire(credentials, clock, pace)
    before: Mapping[str, Callable[[Bench], Found]] = {
        "wrong_key": wire.wrong_key,
        "missing_destroyed": wire.missing_destroyed,
        "pending": wire.pending,
        "offers": wire.offers,
        "filters": wire.filters,
        "disk_in_price": wire.disk_in_price,
        "gpu_names": wire.gpu_names,
        "pace": wire.pace,
        "shown_keys": wire.shown_keys,
    }
    own = (
        *(Trial(named, Phase.BEFORE, attempt) for named, attempt in before.items()),
        Trial("words", Phase.CREATED, wire.words),
        Trial("price_sum", Phase.RUNNING, wire.price_sum),
        Trial("onstart", Phase.RUNNING, _onstart),
    )
    provider = VastProvider(credentials, clock, name=name, pace=pace)
    return Subject(provider, ASSUMPTIONS, GPUS, IMAGE, own, (issuer, credentials.api_key), ("vastai", "requests"))


class _Wire:
    """The trials that read what comes over the wire."""

    def __init__(self, credentials: Credentials, clock: Clock, pace: Pace) -> None:
        self._credentials = credentials
        self._clock = clock
        self._pace = pace
        self._wire = self._with(credentials.api_key)

    def _with(self, key: str) -> Wire:
        return Wire(Credentials(self._credentials.server_url, key), self._clock, self._pace, Patience())

    def wrong_key(self, bench: Bench) -> Found:
        """Refused, and never the answer that means that there is none."""
        del bench
        key = new_secret()
        stranger = VastProvider(Credentials(self._credentials.server_url, key), self._clock, pace=self._pace)
        try:
            found = stranger.instance(NEVER)
        except ProviderUnavailable as error:
            reply = self._with(key).read(_show(NEVER))
            refused = reply.status in {401, 403} or (reply.body or {}).get("error") == "auth_error"
            return refused, f"{reply.status} {reply.shown}" if refused else str(error)
        return False, f"it is answered as a missing instance is: {found}"

    def missing_destroyed(self, bench: Bench) -> Found:
        """The answer to a destroy of what is not there, as was just looked at."""
        if bench.subject.provider.instance(NEVER) is not None:
            raise CannotTry(f"there is an instance {NEVER}")
        reply = self._wire.once(Call(Lane.DESTROY, "delete", f"/instances/{NEVER}/", body={}))
        error = reply.unexpected()
        if isinstance(error, NoAnswer):
            raise error
        return reply.status == 404 and reply.refuses(*GONE), f"{reply.status} {reply.shown}"

    def pending(self, bench: Bench) -> Found:
        """The list, for an instance that nobody has."""
        bench.subject.provider.pending_prices(NEVER)
        return True, "a whole list"

    def offers(self, bench: Bench) -> Found:
        """Rows that read as offers."""
        del bench
        rows = self._search()
        read, problem = 0, ""
        for row in rows:
            try:
                offers.offer(row)
                read += 1
            except ProviderUnavailable as error:
                problem = printable(str(error), 150)
        return read == len(rows), f"{read} of {len(rows)} read {problem}".rstrip()

    def filters(self, bench: Bench) -> Found:
        """Rows that are all as they were asked for."""
        del bench
        rows = self._search()
        kept = len(offers.offers(rows, _ANY))
        return kept == len(rows), f"{kept} of {len(rows)} are as they were asked for"

    def disk_in_price(self, bench: Bench) -> Found:
        """One offer, asked for with another disk."""
        del bench
        small, large = ({row["id"]: row for row in self._search(disk)} for disk in (10.0, 100.0))
        both = small.keys() & large.keys()
        if not both:
            raise CannotTry("no offer came with both disks")
        dearer = [key for key in both if _dph(large[key]) > _dph(small[key])]
        return bool(dearer), f"{len(dearer)} of {len(both)} cost more with 100 GB than with 10 GB"

    def gpu_names(self, bench: Bench) -> Found:
        """Names of the market that begin as a family does."""
        del bench
        reply = self._wire.read(Call(Lane.SEARCH, "get", "/gpu_names/unique/"))
        named = [str(one).replace("_", " ") for one in Row("the GPU names", reply.ok()).items("gpu_names")]
        unknown = [
            name
            for family, known in offers.FAMILIES.items()
            for name in named
            if name.split()[0] == family and name not in known
        ]
        return not unknown, f"{len(named)} names; not known: {', '.join(unknown) or 'none'}"

    def pace(self, bench: Bench) -> Found:
        """Calls in a row at the adapter's distance, none of them tried again."""
        del bench
        listing = Call(Lane.LIST, "get", "/api/v1/instances/", query={"limit": 1})
        replies = [self._wire.once(call) for _ in range(_CALLS) for call in (_show(NEVER), listing)]
        limited = [str(reply.call) for reply in replies if reply.status == 429]
        return not limited, f"{len(replies)} calls in a row; limited: {', '.join(limited) or 'none'}"

    def shown_keys(self, bench: Bench) -> Found:
        """The account as a scoped key is shown it: our own key is nowhere in it."""
        with bench.scoped_key(Scope.WORKING) as (_, key):
            told = self._with(key.secret).read(Call(Lane.ACCOUNT, "get", "/users/current")).ok()
        shown = self._credentials.api_key in str(told)
        return not shown, f"the key that made it is {'' if shown else 'not '}shown"

    def words(self, bench: Bench) -> Found:
        """Every state on the way to running, in the service's own word."""
        seen: list[str] = []

        def look() -> bool | None:
            row = self._row(bench)
            word = row.text("actual_status") or "null"
            if word not in seen[-1:]:
                seen.append(word)
            return True if word == InstanceStatus.RUNNING or word not in {"null", *_WORDS} else None

        bench.until(look, _RUNS_S)
        return all(word in {"null", *_WORDS} for word in seen), ", then ".join(seen)

    def price_sum(self, bench: Bench) -> Found:
        """The parts of its price."""
        bench.running()
        row = self._row(bench)
        base, disk, total = (row.number(name) for name in ("dph_base", "storage_total_cost", "dph_total"))
        holds = abs(base + disk - total) <= total * _PRICE_SHARE
        return holds, f"{base:.4f} + {disk:.4f}, and {total:.4f} in all"

    def _row(self, bench: Bench) -> Row:
        number = bench.number()
        return Row.of(f"instance {number}", self._wire.read(_show(number)).ok().get("instances"))

    def _search(self, disk_gb: float = 10.0) -> list[Any]:
        query = {**offers.search_body(_ANY), "allocated_storage": disk_gb}
        rows = offers.rows_of(self._wire.read(Call(Lane.SEARCH, "post", "/bundles/", body=query)).ok())
        if not rows:
            raise CannotTry("nothing of the kind is on offer now")
        return rows


def _show(number: object) -> Call:
    return Call(Lane.SHOW, "get", f"/instances/{number}/", query={"owner": "me"})


def _dph(row: Mapping[str, Any]) -> float:
    return Row.of("an offer", row).number("dph_total")


def _onstart(bench: Bench) -> Found:
    """The file that the start script touches in the home of whoever logs in."""
    there = bench.box().run(["test", "-e", ".no_auto_tmux"]).status == 0
    return there, f"~/.no_auto_tmux is {'' if there else 'not '}there"
