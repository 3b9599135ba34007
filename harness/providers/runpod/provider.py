"""The ``ports.Provider`` over RunPod's REST API v2.

Only a reply of the documented shape is an answer: errors are problem objects (RFC 9457) that repeat their status,
and a list is whole when its last page says so. Whatever else comes raises ProviderUnavailable.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from harness.core.canonical import Json
from harness.core.errors import AmbiguousCreate, BadInput, OfferGone, ProviderUnavailable
from harness.core.ids import InstanceId, OfferId, VolumeId
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
from harness.providers.runpod import market, rows
from harness.providers.runpod.access import RunPodAccess
from harness.providers.runpod.market import PodTerms
from harness.providers.runpod.pod_log import read_log
from harness.providers.wire import Call, Reply, Wire

BILLED_EVERY_S = 600.0
"""Twice the time after which charges are booked (docs.runpod.io/accounts-billing/billing: every five minutes)."""

MOUNT = "/workspace"
"""Where the disk shows that survives a stop; everything else of a container is erased by one."""

_DAY_S = 86_400
_BILLED_DAYS = 90
_MAX_PAGES = 1000
_LABEL_LIMIT = 191
_SMALLEST_DISK_GB = 10
_WHO = "query { myself { id clientBalance } }"
_BOOT = "; ".join(
    (
        "mkdir -p ~/.ssh /run/sshd",
        "chmod 700 ~/.ssh",
        'echo "$PUBLIC_KEY" > ~/.ssh/authorized_keys',
        "chmod 600 ~/.ssh/authorized_keys",
        "export DEBIAN_FRONTEND=noninteractive",
        "[ -x /usr/sbin/sshd ] || { apt-get update && apt-get install -y openssh-server; }",
        "ssh-keygen -A",
        *host_keys.SCRIPT.replace("'", "").strip().splitlines(),
        "/usr/sbin/sshd",
        "exec sleep infinity",
    )
)
"""Start command of a container: it lets the key in, prints the host keys, runs an SSH server. No single quotes."""

_SPELLINGS: Mapping[str, Json] = {"args": f"bash -c '{_BOOT}'", "cmd": ["bash", "-c", _BOOT]}
"""The start command as the published description has it, and as the newest official client sends it."""


class RunPodProvider:
    """A ``ports.Provider`` over RunPod's REST API."""

    def __init__(
        self,
        access: RunPodAccess,
        clock: Clock,
        *,
        name: str = "runpod",
        pace: Pace,
        bills_every_s: float,
        patience: Patience | None = None,
    ) -> None:
        self._name = name
        self._clock = clock
        self._patience = patience or Patience()
        self._client = access.client()
        self._wire = Wire(access, clock, pace, self._patience)
        self._offered: dict[OfferId, PodTerms] = {}
        self.bills_every_s = bills_every_s

    @property
    def name(self) -> str:
        """The provider's name in events and releases."""
        return self._name

    @property
    def host_key_source(self) -> str:
        """Where ``host_keys`` reads."""
        return "container log over the provider's TLS API"

    def account(self) -> Account:
        """The account behind the API key: GraphQL tells it, REST does not."""
        reply = self._wire.read(Call(Lane.ACCOUNT, "post", "/graphql", body={"query": _WHO}))
        body = reply.ok()
        if body.get("errors"):
            raise ProviderUnavailable(
                "the RunPod key may not see its account",
                remedy="Give the key read access to GraphQL: the proof that an instance is gone says whose it was.",
            )
        return rows.account(body, reply.at)

    def gpu_names(self, asked: str) -> tuple[str, ...]:
        """RunPod's display names for what a person typed."""
        return market.gpu_names(asked)

    def search(self, query: OfferQuery) -> tuple[Offer, ...]:
        """GPU types in stock that fit, the cheapest first. A type is no machine: it may be rented again and again."""
        call = Call(Lane.SEARCH, "get", "/v2/catalog/gpus", query=market.catalogue_query(query))
        listed = Row(str(call), self._wire.read(call).ok()).items("gpus")
        found = market.offers(listed, query)
        self._offered.update({number: terms for number, (terms, _) in found.items()})
        return tuple(offer for _, offer in found.values())

    def create(self, offer: OfferId, request: CreateRequest) -> InstanceId:
        """Rent a GPU type that was searched for before, asking once.

        Raises OfferGone when none could be placed, BadInput when the request itself was refused,
        ProviderUnavailable when the provider plainly said no, and AmbiguousCreate in every other
        case: then a pod may exist and bill, and carries the request's label.
        """
        terms = self._offered.get(offer)
        if terms is None:
            raise OfferGone(f"offer {offer} is not in the catalogue as it was last read")
        body = _create_body(terms, request)
        for spelling, started in _SPELLINGS.items():
            reply = self._create(body | {spelling: started}, request.label)
            if reply.status in {200, 201}:
                return _new_pod(reply, request.label)
            if not _unknown_field(reply, spelling):
                break
        raise _refusal(reply, offer, request.label)

    def instance(self, instance_id: InstanceId) -> Instance | None:
        """One pod; None only when the provider answered, well formed, that there is none."""
        shown = self._show(instance_id)
        found = rows.pod(shown) if shown is not None else None
        if found is not None and found.id != instance_id:
            raise ProviderUnavailable(f"asked for pod {instance_id}, the provider showed {found.id}")
        return found

    def instances(self) -> Listing:
        """Every pod of the account, those of clusters too; raises when a page is missing, or names a pod twice."""
        listed = [rows.pod(one) for one in self._pages("/v2/pods", "pods", {"includeClusterPods": "true"})]
        listing = Listing(tuple(one for one in listed if one is not None))
        if len(listing.ids()) != len(listing.instances):
            raise ProviderUnavailable("the list of pods names one twice")
        return listing

    def pending_prices(self, instance_id: InstanceId) -> tuple[PendingPrice, ...]:
        """None: no announcement of a price is published; that of a pod is told with it."""
        if self.instance(instance_id) is None:
            raise ProviderUnavailable(f"the provider shows no pod {instance_id}")
        return ()

    def attach_key(self, instance_id: InstanceId, public_key: str) -> None:
        """See that the pod was created with this key: a pod takes none later without losing what it holds."""
        key = public_key.split()
        if len(key) < 2 or not public_key.strip().isprintable():
            raise BadInput("an SSH public key is one line: its type, then its data")
        shown = self._show(instance_id)
        if shown is None:
            raise ProviderUnavailable(f"the provider shows no pod {instance_id}")
        if key[1] not in rows.public_keys(shown).split():
            raise ProviderUnavailable(
                f"pod {instance_id} was created without this SSH key, and RunPod attaches none to a pod that exists",
                remedy="Put the key into ~/.ssh/authorized_keys on the box by the way that still opens it.",
            )

    def host_keys(self, instance_id: InstanceId, *, newest: bool = False) -> tuple[str, ...]:
        """The host keys that the container printed at its first start, or at its newest."""
        shown = self._show(instance_id)
        if shown is None:
            raise ProviderUnavailable(f"the provider shows no pod {instance_id}")
        log = read_log(
            self._client,
            f"/v2/pods/{instance_id}/logs",
            Row.of("a pod", shown).text("createdAt"),
            until=None if newest else host_keys.END,
            wait_s=self._patience.log_s,
        )
        return host_keys.read(log, newest=newest)

    def start(self, instance_id: InstanceId) -> None:
        """Start a stopped pod; RunPod refuses when its machine has no GPU left for it."""
        self._act(instance_id, "start")

    def stop(self, instance_id: InstanceId) -> None:
        """Stop it: GPU billing ends; what lies under /workspace stays, the rest of the container is erased."""
        self._act(instance_id, "stop")

    def destroy(self, instance_id: InstanceId) -> DestroyReply:
        """Ask for the pod and its disk to be deleted. Only harness.guard calls this."""
        reply = self._wire.once(Call(Lane.DESTROY, "delete", f"/v2/pods/{instance_id}"))
        if _problem(reply, 404):
            return DestroyReply.NO_SUCH_INSTANCE
        if reply.status != 204:
            raise reply.unexpected()
        return DestroyReply.ACCEPTED

    def charges(self, instance_id: InstanceId) -> tuple[Charge, ...]:
        """Charges for the pod in the last 90 days, by day and kind: gpu, cpu, disk."""
        records = self._billed("/v2/billing/pods", {"podId": str(instance_id)})
        return rows.charges(records, instance_id, self._clock.now())

    def volumes(self) -> tuple[Volume, ...]:
        """Every network volume of the account, and the pods in which each is mounted."""
        users: dict[VolumeId, tuple[InstanceId, ...]] = defaultdict(tuple)
        for pod in self.instances().instances:
            for number in pod.volumes:
                users[number] += (pod.id,)
        listed = tuple(rows.volume(one, users) for one in self._pages("/v2/network-volumes", "networkVolumes", {}))
        if len({volume.id for volume in listed}) != len(listed):
            raise ProviderUnavailable("the list of volumes names one twice")
        return listed

    def bills(self) -> tuple[Bill, ...]:
        """Bills of every pod and network volume of the account in the last 90 days."""
        pods, volumes = (self._billed(path, {}) for path in ("/v2/billing/pods", "/v2/billing/network-volumes"))
        return rows.bills(pods, volumes, self._clock.now())

    def _show(self, instance_id: InstanceId) -> dict[str, Any] | None:
        reply = self._wire.read(Call(Lane.SHOW, "get", f"/v2/pods/{instance_id}"))
        return None if _problem(reply, 404) else reply.ok()

    def _act(self, instance_id: InstanceId, action: Literal["start", "stop"]) -> None:
        call = Call(Lane.MANAGE, "post", f"/v2/pods/{instance_id}/action", body={"action": action})
        reply = self._wire.once(call)
        if rows.pod_id(Row(str(call), reply.ok()), "id") != instance_id:
            raise reply.unexpected()

    def _create(self, body: Mapping[str, Json], label: str) -> Reply:
        call = Call(Lane.CREATE, "post", "/v2/pods", body=body, reply_s=self._patience.create_reply_s)
        try:
            return self._wire.once(call)
        except ProviderUnavailable as error:
            raise AmbiguousCreate(f"{error}; a pod named {label} may exist") from error

    def _billed(self, path: str, which: Mapping[str, Json]) -> list[Any]:
        """Records of the last 90 days, by day; raises when they are not as many as the reply counts."""
        start = datetime.fromtimestamp(self._clock.now() // _DAY_S * _DAY_S - _BILLED_DAYS * _DAY_S, UTC)
        query: dict[str, Json] = {"bucketSize": "day", "startTime": start.strftime("%Y-%m-%dT%H:%M:%SZ"), **which}
        call = Call(Lane.CHARGES, "get", path, query=query)
        page = Row(str(call), self._wire.read(call).ok())
        records, counted = page.items("records"), Row.of(f"{call}: metadata", page.fields.get("metadata"))
        if counted.whole("recordCount") != len(records):
            raise counted.odd("recordCount", f"the number of its records, {len(records)}")
        return records

    def _pages(self, path: str, items: str, query: Mapping[str, Json]) -> list[Any]:
        """All rows of a list, or ProviderUnavailable: never a part of it. A reply without pages is the whole list."""
        whole: list[Any] = []
        asked, cursors = dict(query), {""}
        for _ in range(_MAX_PAGES):
            call = Call(Lane.LIST if items == "pods" else Lane.VOLUMES, "get", path, query=asked)
            page = Row(str(call), self._wire.read(call).ok())
            whole += page.items(items)
            if page.fields.get("pagination") is None:
                return whole
            more = Row.of(f"{call}: pagination", page.fields["pagination"])
            if more.fields.get("hasNextPage") is False:
                return whole
            cursor = more.text("nextCursor")
            if more.fields.get("hasNextPage") is not True or cursor in cursors:
                raise more.odd("nextCursor", "a new one, or hasNextPage false: the list is not whole")
            cursors.add(cursor)
            asked["cursor"] = cursor
        raise ProviderUnavailable(f"GET {path} has more than {_MAX_PAGES} pages")


def _create_body(terms: PodTerms, request: CreateRequest) -> dict[str, Json]:
    """A pod on demand in RunPod's own data centres: SSH published, the disk where it survives a stop."""
    if not 0 < len(request.label) <= _LABEL_LIMIT:
        raise BadInput(f"a pod's name has 1 to {_LABEL_LIMIT} characters, not {len(request.label)}")
    if request.disk_gb < _SMALLEST_DISK_GB:
        raise BadInput(f"the disk has at least {_SMALLEST_DISK_GB} GB, not {request.disk_gb:g}")
    if not request.public_key:
        raise BadInput("RunPod lets in only the SSH key that a pod is created with, and none was given")
    size = math.ceil(request.disk_gb)
    gpu: dict[str, Json] = {"id": terms.gpu_id, "count": terms.count}
    return {
        "name": request.label,
        "image": request.image,
        "cloud": market.CLOUD,
        "gpu": gpu | ({"minCudaVersion": terms.min_cuda} if terms.min_cuda else {}),
        "disk": size,
        "mounts": {"persistent": {"size": size, "path": MOUNT}},
        "ports": ["22/tcp"],
        "env": {rows.KEY_VARIABLE: request.public_key.strip()},
        "startSsh": True,
    }


def _new_pod(reply: Reply, label: str) -> InstanceId:
    try:
        return rows.pod_id(Row(str(reply.call), reply.body or {}), "id")
    except ProviderUnavailable as error:
        raise AmbiguousCreate(f"{error}; a pod named {label} may exist") from error


def _problem(reply: Reply, *statuses: int) -> bool:
    """True for an error of one of these statuses as the service itself words it: a problem that repeats its status."""
    body = reply.body or {}
    return reply.status in statuses and body.get("status") == reply.status and isinstance(body.get("title"), str)


def _unknown_field(reply: Reply, name: str) -> bool:
    """True where a create was refused, and nothing made, because the service knows no field of this name."""
    errors = (reply.body or {}).get("errors")
    told = json.dumps(errors) if isinstance(errors, list) else ""
    return _problem(reply, 422) and f"'{name}'" in told and "not allowed" in told


def _refusal(reply: Reply, offer: OfferId, label: str) -> Exception:
    """Error of a create that did not succeed: only a problem object, or a rate limit, means that nothing exists."""
    if _problem(reply, 400):  # what it says of a rule that was broken, and of a GPU that nobody has now
        return OfferGone(f"offer {offer} could not be placed: {reply.shown}")
    if _problem(reply, 422):
        return BadInput(f"the provider refused the request for a pod: {reply.shown}")
    if reply.status == 429 or (_problem(reply, reply.status) and 400 <= reply.status < 500 and reply.status != 408):
        return reply.unexpected()
    return AmbiguousCreate(f"{reply.unexpected()}; a pod named {label} may exist")
