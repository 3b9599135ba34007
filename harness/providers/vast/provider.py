"""The ``ports.Provider`` over Vast.ai's HTTP API.

What the provider answers is believed only where it is an answer: a 404 may mean a revoked
key, a 410 a retired address, a 200 may carry a refusal. Whatever is not the documented
shape raises ProviderUnavailable and says nothing about any instance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.core.canonical import Json
from harness.core.errors import AmbiguousCreate, BadInput, OfferGone, ProviderUnavailable
from harness.core.ids import InstanceId, OfferId
from harness.core.ports import (
    Account,
    Bill,
    Charge,
    Clock,
    CreateRequest,
    DestroyReply,
    Instance,
    Listing,
    Offer,
    OfferQuery,
    PendingPrice,
    Volume,
)
from harness.providers import host_keys
from harness.providers.rate_limits import Lane, Pace, Patience
from harness.providers.row import Row
from harness.providers.vast import offers, rows
from harness.providers.vast.container_log import fetch_text
from harness.providers.vast.credentials import Credentials
from harness.providers.wire import Call, Reply, Wire

GONE = ("not_found", "no_such_instance")
_MAX_PAGES = 1000
_DAY_S = 86_400
_CHARGES_SINCE_S = 90 * _DAY_S
_LABEL_LIMIT = 256
_ONSTART = f"touch ~/.no_auto_tmux\n{host_keys.SCRIPT}"
_SMALLEST_DISK_GB = 8


class VastProvider:
    """A ``ports.Provider`` over Vast.ai's HTTP API; the embedded one speaks the same."""

    def __init__(
        self,
        credentials: Credentials,
        clock: Clock,
        *,
        name: str = "vast",
        pace: Pace | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._patience = patience or Patience()
        self._wire = Wire(credentials, clock, pace or Pace(), self._patience)

    @property
    def name(self) -> str:
        """The provider's name in events and releases."""
        return self._name

    @property
    def host_key_source(self) -> str:
        """Where ``host_keys`` reads."""
        return "container log over the provider's TLS API"

    def account(self) -> Account:
        """The account behind the API key."""
        reply = self._wire.read(Call(Lane.ACCOUNT, "get", "/users/current"))
        return rows.account(reply.ok(), reply.at)

    def gpu_names(self, asked: str) -> tuple[str, ...]:
        """The market's names for what a person typed."""
        return offers.gpu_names(asked)

    def search(self, query: OfferQuery) -> tuple[Offer, ...]:
        """Offers that fit, the cheapest first; ``H100`` in ``gpu_names`` stands for all kinds of H100."""
        body = self._wire.read(Call(Lane.SEARCH, "post", "/bundles/", body=offers.search_body(query))).ok()
        return offers.offers(offers.rows_of(body), query)

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        """Rent an offer, asking once.

        Raises OfferGone when it was taken, BadInput when the request itself was refused,
        ProviderUnavailable when the provider plainly said no, and AmbiguousCreate in every
        other case: then an instance may exist and bill, and carries the request's label.
        """
        call = Call(
            Lane.CREATE, "put", f"/asks/{offer}/", body=_create_body(request), reply_s=self._patience.create_reply_s
        )
        try:
            reply = self._wire.once(call)
        except ProviderUnavailable as error:
            raise AmbiguousCreate(f"{error}; an instance labelled {request.label} may exist") from error
        if reply.status == 200 and reply.body is not None and reply.body.get("success") is True:
            return _new_contract(reply, request.label)
        raise _refusal(reply, offer, request.label)

    def instance(self, instance_id: InstanceId) -> Instance | None:
        """One instance; None only when the provider answered, well formed, that there is none."""
        reply = self._wire.read(Call(Lane.SHOW, "get", f"/instances/{instance_id}/", query={"owner": "me"}))
        if reply.status == 404 and reply.refuses(*GONE):
            return None
        body = reply.ok()
        if "instances" not in body:
            raise reply.unexpected()
        if body["instances"] in (None, [], {}):
            return None
        shown = rows.instance(body["instances"])
        if shown.id != instance_id:
            raise ProviderUnavailable(f"asked for instance {instance_id}, the provider showed {shown.id}")
        return shown

    def instances(self) -> Listing:
        """Every instance of the account, all pages; raises when their number is not the announced total."""
        query: dict[str, Json] = {"select_filters": {}, "order_by": [{"col": "id", "dir": "asc"}], "limit": 25}
        call = Call(Lane.LIST, "get", "/api/v1/instances/", query=query)
        listed = tuple(
            rows.instance(row) for row in self._all_pages(call, "instances", "instances_found", "total_instances")
        )
        listing = Listing(listed)
        if len(listing.ids()) != len(listed):
            raise ProviderUnavailable("the list of instances names one twice")
        return listing

    def pending_prices(self, instance_id: InstanceId) -> tuple[PendingPrice, ...]:
        """Prices for which the host would go on beyond the contract's end; nothing changes before they are accepted."""
        call = Call(Lane.LIST, "get", "/instances/pending-price-increases/")
        page = Row(str(call), self._wire.read(call).ok())
        found = tuple(rows.pending_price(one) for one in page.items("pending_price_increases"))
        if page.fields.get("truncated"):
            raise page.odd("truncated", "false: the list is not whole")
        return tuple(price for contract, price in found if InstanceId(contract) == instance_id)

    def attach_key(self, instance_id: InstanceId, public_key: str) -> None:
        """Let an SSH public key (one line) log in; a key that is there already is fine."""
        key = public_key.strip()
        if not key.isprintable() or len(key.split()) < 2:
            raise BadInput("an SSH public key is one line: its type, then its data")
        path = f"/instances/{instance_id}/ssh/"
        reply = self._wire.once(Call(Lane.KEYS, "post", path, body={"ssh_key": key}))
        if reply.status == 200 and reply.body is not None and reply.body.get("success") is True:
            return
        attached = self._wire.read(Call(Lane.KEYS, "get", path)).ok().get("ssh_keys")
        if key.split()[1] not in _key_data(attached):
            raise reply.unexpected()

    def host_keys(self, instance_id: InstanceId, *, newest: bool = False) -> tuple[str, ...]:
        """The host keys that the container printed at its first start, or at its newest."""
        return host_keys.read(self.container_log(instance_id), newest=newest)

    def container_log(self, instance_id: InstanceId) -> str:
        """Output of the container, read over TLS, at most 4 MiB; data of the box, not yet printable."""
        reply = self._wire.read(Call(Lane.LOGS, "put", f"/instances/request_logs/{instance_id}/", body={}))
        url = Row(str(reply.call), reply.ok()).text("result_url")
        return fetch_text(url, self._clock, wait_s=self._patience.log_s, timeout_s=self._patience.reply_s)

    def start(self, instance_id: InstanceId) -> None:
        """Start a stopped instance."""
        self._manage(instance_id, "running")

    def stop(self, instance_id: InstanceId) -> None:
        """Stop it: GPU billing ends, the disk and everything on it stays."""
        self._manage(instance_id, "stopped")

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        """Ask for the instance and its disk to be deleted. Only harness.guard calls this."""
        reply = self._wire.once(Call(Lane.DESTROY, "delete", f"/instances/{instance_id}/", body={}))
        if reply.status == 404 and reply.refuses(*GONE):
            return DestroyReply.NO_SUCH_INSTANCE
        reply.done()
        return DestroyReply.ACCEPTED

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        """Charges for the instance in the last 90 days, by kind: gpu, disk, bwd, bwu."""
        billed = self._billed({"type": {"in": ["instance"]}})
        return tuple(charge for row in billed for charge in rows.charges_of(instance_id, row))

    def volumes(self) -> tuple[Volume, ...]:
        """Every volume of the account, local and on the network; the provider sends them in one piece, uncounted."""
        call = Call(Lane.VOLUMES, "get", "/volumes/", query={"owner": "me", "type": "all_volume"})
        page = Row(str(call), self._wire.read(call).ok())
        listed = tuple(rows.volume(row) for row in page.items("volumes"))
        if len({volume.id for volume in listed}) != len(listed):
            raise ProviderUnavailable("the list of volumes names one twice")
        return listed

    def bills(self) -> tuple[Bill, ...]:
        """Bills of every contract of the account, instances and volumes, in the last 90 days."""
        return tuple(rows.bill(row) for row in self._billed({}))

    def _billed(self, which: Mapping[str, Json]) -> list[Any]:
        now = int(self._clock.now())
        span: dict[str, Json] = {"gte": now - _CHARGES_SINCE_S, "lte": now + _DAY_S}
        filters: dict[str, Json] = {"day": span, **which}
        call = Call(
            Lane.CHARGES, "get", "/charges/", query={"select_filters": filters, "format": "table", "limit": 100}
        )
        return self._all_pages(call, "results", "count", "total")

    def _manage(self, instance_id: InstanceId, state: str) -> None:
        self._wire.once(Call(Lane.MANAGE, "put", f"/instances/{instance_id}/", body={"state": state})).done()

    def _all_pages(self, call: Call, items: str, found: str, total: str) -> list[Any]:
        """All rows of a paged list, or ProviderUnavailable: never a part of it."""
        whole: list[Any] = []
        query, tokens = dict(call.query or {}), {""}
        for _ in range(_MAX_PAGES):
            page = Row(str(call), self._wire.read(Call(call.lane, call.method, call.path, query)).done())
            here = page.items(items)
            if page.whole(found) != len(here):
                raise page.odd(found, f"the number of its {items}, {len(here)}")
            whole += here
            token = page.text("next_token")
            if not token:
                if page.whole(total) != len(whole):
                    raise page.odd(total, f"the number of {items} on all pages, {len(whole)}")
                return whole
            if token in tokens:
                raise page.odd("next_token", "a new one: the pages go round in a circle")
            tokens.add(token)
            query["after_token"] = token
        raise ProviderUnavailable(f"{call} has more than {_MAX_PAGES} pages")


def _create_body(request: CreateRequest) -> dict[str, Json]:
    """The official client's own body: on demand, direct and proxied SSH, nothing left behind when it cannot start."""
    if not 0 < len(request.label) <= _LABEL_LIMIT:
        raise BadInput(f"an instance label has 1 to {_LABEL_LIMIT} characters, not {len(request.label)}")
    if request.disk_gb < _SMALLEST_DISK_GB:
        raise BadInput(f"the disk has at least {_SMALLEST_DISK_GB} GB, not {request.disk_gb:g}")
    from vastai.api.instances import build_create_instance_payload  # noqa: PLC0415 - slow to import, see wire

    body: dict[str, Json] = build_create_instance_payload(
        image=request.image,
        disk=request.disk_gb,
        label=request.label,
        onstart_cmd=_ONSTART,
        cancel_unavail=True,
        ssh=True,
        direct=True,
    )
    return body


def _new_contract(reply: Reply, label: str) -> InstanceId:
    try:
        return InstanceId(Row(str(reply.call), reply.body or {}).identifier("new_contract"))
    except ProviderUnavailable as error:
        raise AmbiguousCreate(f"{error}; an instance labelled {label} may exist") from error


def _refusal(reply: Reply, offer: OfferId, label: str) -> Exception:
    """Error of a create that did not succeed: only a well-formed no, or a rate limit, means that nothing exists."""
    if reply.refuses("no_such_ask"):
        return OfferGone(f"offer {offer} is gone: {reply.shown}")
    told = reply.body is not None and 400 <= reply.status < 500 and reply.status != 408
    if told and reply.status == 400:
        return BadInput(f"the provider refused to rent offer {offer}: {reply.shown}")
    if told or reply.status == 429:
        return reply.unexpected()
    return AmbiguousCreate(f"{reply.unexpected()}; an instance labelled {label} may exist")


def _key_data(attached: object) -> frozenset[str]:
    """The data of the keys that are attached; the provider sends the list as JSON text inside JSON."""
    try:
        keys: Any = json.loads(attached) if isinstance(attached, str) else attached
    except ValueError:
        return frozenset()
    listed = keys if isinstance(keys, list) else []
    texts = [str(key.get("public_key", key.get("ssh_key", ""))) for key in listed if isinstance(key, Mapping)]
    return frozenset(text.split()[1] for text in texts if len(text.split()) > 1)
