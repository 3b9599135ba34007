"""RunPod's adapter against a server that says what it is told: only the documented answer is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.core.errors import AmbiguousCreate, BadInput, NoKey, OfferGone, ProviderUnavailable
from harness.core.ids import InstanceId, number_of
from harness.core.ports import Charge, CreateRequest, DestroyReply, Endpoint, InstanceStatus, OfferQuery, Provider
from harness.providers.host_keys import END, SCRIPT
from harness.providers.rate_limits import UNPACED, Patience
from harness.providers.registry import ProviderSettings
from harness.providers.runpod import open_provider
from harness.providers.runpod.access import RunPodAccess, resolve
from harness.providers.runpod.assumptions import ASSUMPTIONS
from harness.providers.runpod.market import gpu_name, gpu_names
from harness.providers.runpod.provider import BILLED_EVERY_S, RunPodProvider
from tests.support.fake_clock import FakeClock
from tests.support.scripted_http import DROP, HANG, Answer, Asked, Said, Script, reply, serving

KEY = "rpa_SESAME0123456789"
ID = InstanceId("7h9k2m4n6p")
ONE = f"/v2/pods/{ID}"
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIyB4pVdpIzqKMhBGGSYzqKMhBGGSYzqKMhBGGSYzqKM operator"
REQUEST = CreateRequest("pytorch/pytorch:2.1.0", 149.5, "gsh-demo-0a1b2c3d", PUBLIC_KEY)
QUERY = OfferQuery(("H100",), 8, 150.0, 40.0, min_cuda=12.4)
IMPATIENT = Patience(connect_s=2.0, reply_s=0.4, create_reply_s=0.4, log_s=5.0)


def problem(status: int, title: str = "No", **more: Any) -> Said:
    return reply({"title": title, "status": status, "detail": "no", **more}, status)


def pod(**fields: Any) -> dict[str, Any]:
    """The pod of the published example."""
    usual: dict[str, Any] = {
        "id": str(ID),
        "name": "gsh-demo-0a1b2c3d",
        "image": "runpod/pytorch",
        "args": "",
        "disk": 50,
        "ports": ["22/tcp"],
        "env": {"PUBLIC_KEY": PUBLIC_KEY},
        "registry": None,
        "status": "RUNNING",
        "actions": ["stop"],
        "mounts": {"persistent": {"size": 20, "path": "/workspace"}},
        "gpu": {"id": "NVIDIA H100 80GB HBM3", "count": 8},
        "cloud": "SECURE",
        "ssh": {"proxy": None, "direct": {"host": "195.26.233.3", "port": 34446, "username": "root", "command": ""}},
        "cost": 21.52,
        "createdAt": "2026-06-01T12:00:00Z",
        "startedAt": "2026-06-01T12:02:00Z",
    }
    return usual | fields


def gpu(**fields: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "id": "NVIDIA H100 80GB HBM3",
        "name": "H100 SXM",
        "memory": 80,
        "secure": True,
        "price": {"secure": 2.69, "community": 2.0},
        "maxCount": {"secure": 8, "community": 0},
        "availability": "LOW",
        "cudaVersions": [{"version": "12.8", "available": True}, {"version": "13.0", "available": False}],
    }
    return usual | fields


def billed(*records: dict[str, Any], count: int | None = None) -> Said:
    return reply({"records": list(records), "metadata": {"recordCount": len(records) if count is None else count}})


def record(day: int = 1, gpu: float = 2.0, disk: float = 0.5, who: str = str(ID)) -> dict[str, Any]:
    span = {"startTime": f"2026-06-{day:02}T00:00:00Z", "endTime": f"2026-06-{day + 1:02}T00:00:00Z"}
    return {**span, "podId": who, "gpuAmount": gpu, "cpuAmount": 0, "diskAmount": disk, "totalAmount": gpu + disk}


NOT_ANSWERS: dict[str, Answer] = {
    "no key": problem(401, "Unauthorized"),
    "no right": problem(403, "Forbidden"),
    "not found, by a gateway": Said(404, b"<html>not found</html>"),
    "not found, in the words of v1": reply({"message": "Pod not found"}, 404),
    "not found, and its body says 200": reply({"title": "Not Found", "status": 200, "detail": "x"}, 404),
    "retired": problem(410, "Gone"),
    "limited": problem(429, "Too Many Requests"),
    "gateway": Said(502, b"<html>bad gateway</html>"),
    "server error": problem(500),
    "empty": Said(200, b""),
    "a list": reply([]),
    "null": reply(None),
    "html": Said(200, b"<html>sign in</html>"),
    "another object": reply({"detail": "maintenance"}),
    "moved": Said(302, b"", {"Location": "http://127.0.0.1:9/"}),
    "dropped": DROP,
    "cut": Said(200, b'{"pods": []}', then="cut"),
}
LOOKS: dict[str, tuple[str, Callable[[Provider], object]]] = {
    "account": ("POST /graphql", lambda runpod: runpod.account()),
    "search": ("GET /v2/catalog/gpus", lambda runpod: runpod.search(QUERY)),
    "instance": (f"GET {ONE}", lambda runpod: runpod.instance(ID)),
    "instances": ("GET /v2/pods", lambda runpod: runpod.instances()),
    "host keys": (f"GET {ONE}", lambda runpod: runpod.host_keys(ID)),
    "charges": ("GET /v2/billing/pods", lambda runpod: runpod.charges(ID)),
    "bills": ("GET /v2/billing/pods", lambda runpod: runpod.bills()),
    "volumes": ("GET /v2/pods", lambda runpod: runpod.volumes()),
    "pending prices": (f"GET {ONE}", lambda runpod: runpod.pending_prices(ID)),
    "start": (f"POST {ONE}/action", lambda runpod: runpod.start(ID)),
    "stop": (f"POST {ONE}/action", lambda runpod: runpod.stop(ID)),
    "destroy": (f"DELETE {ONE}", lambda runpod: runpod.destroy(ID)),
    "attach": (f"GET {ONE}", lambda runpod: runpod.attach_key(ID, PUBLIC_KEY)),
}


@pytest.fixture
def script() -> Iterator[Script]:
    with serving() as served:
        yield served


@pytest.fixture
def runpod(script: Script) -> RunPodProvider:
    access = RunPodAccess(script.url, KEY)
    return RunPodProvider(access, FakeClock(), pace=UNPACED, bills_every_s=600.0, patience=IMPATIENT)


@pytest.mark.parametrize("wrong", NOT_ANSWERS)
@pytest.mark.parametrize("look", LOOKS)
def test_what_is_not_an_answer_is_never_taken_for_one(look: str, wrong: str, script: Script, runpod: Provider) -> None:
    route, ask = LOOKS[look]
    script.on(route, NOT_ANSWERS[wrong])
    with pytest.raises(ProviderUnavailable) as caught:
        ask(runpod)
    assert KEY not in f"{caught.value} {caught.value.remedy}"
    assert str(caught.value).isprintable()


def test_the_key_travels_in_the_header_and_the_client_names_itself(script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", reply(pod()))
    runpod.instance(ID)
    (asked,) = script.requests(f"GET {ONE}")
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["User-Agent"].startswith("gold-standard-harness/")
    assert not asked.query


# --- the account --------------------------------------------------------------------------------


def test_the_account_is_a_number_of_its_text_and_its_credit(script: Script, runpod: Provider) -> None:
    myself = {"id": "user_abc123", "clientBalance": 435.85}
    script.on("POST /graphql", reply({"data": {"myself": myself}}, Date="Fri, 15 Jan 2027 08:00:00 GMT"))
    account = runpod.account()
    assert (account.user_id, account.credit_usd, account.at) == (number_of("user_abc123"), 435.85, 1_800_000_000.0)
    assert 0 < account.user_id < 2**53


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"myself": None}},
        {"data": None, "errors": [{"message": "Unauthorized"}]},
        {"data": {"myself": {"id": "user_x", "clientBalance": 1.0}}, "errors": [{"message": "partial"}]},
        {"data": {"myself": {"id": "", "clientBalance": 1.0}}},
        {"data": {"myself": {"id": "user_x", "clientBalance": None}}},
    ],
)
def test_an_account_that_is_not_told_is_not_made_up(body: object, script: Script, runpod: Provider) -> None:
    script.on("POST /graphql", reply(body))
    with pytest.raises(ProviderUnavailable):
        runpod.account()


@pytest.mark.parametrize(
    ("environ", "error"),
    [({}, NoKey), ({"RUNPOD_API_KEY": ""}, NoKey), ({"RUNPOD_API_KEY": "two words"}, BadInput)],
)
def test_without_a_key_nobody_is_asked(environ: dict[str, str], error: type[BadInput]) -> None:
    with pytest.raises(error, match="RunPod API key"):
        resolve(environ)


@pytest.mark.parametrize("url", ["http://rest.example.org", "ftp://127.0.0.1", "https://user:pw@api.runpod.io"])
def test_the_key_is_sent_over_tls_or_not_beyond_this_machine(url: str) -> None:
    with pytest.raises(BadInput):
        resolve({"RUNPOD_API_KEY": KEY}, url)


def test_the_real_service_is_paced_and_its_bill_waited_for(tmp_path: Any) -> None:
    settings = ProviderSettings("runpod", tmp_path, FakeClock(), {"RUNPOD_API_KEY": KEY})
    opened: Any = open_provider(settings)
    assert opened.bills_every_s == BILLED_EVERY_S >= 600.0


# --- the market ---------------------------------------------------------------------------------


def test_the_catalogue_is_asked_for_stock_in_the_secure_cloud(script: Script, runpod: Provider) -> None:
    script.on("GET /v2/catalog/gpus", reply({"gpus": [gpu()]}))
    (offer,) = runpod.search(QUERY)
    (asked,) = script.requests("GET /v2/catalog/gpus")
    told = {"include": "AVAILABILITY", "product": "POD", "cloud": "SECURE", "count": "8", "minCudaVersion": "12.4"}
    assert asked.query == told
    assert (offer.gpu_name, offer.num_gpus, offer.gpu_ram_mb, offer.cuda_max) == ("H100 SXM", 8, 81_920, 12.8)
    assert offer.usd_per_hour == pytest.approx(8 * 2.69 + 300 * 0.10 / 730)
    assert offer.disk_usd_per_hour == pytest.approx(150 * 0.20 / 730)
    assert (offer.machine_id, offer.reliability, offer.inet_down_mbps) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    "row",
    [
        gpu(availability="NONE"),
        gpu(availability="PLENTY"),
        {name: value for name, value in gpu().items() if name != "availability"},
        gpu(secure=False),
        gpu(maxCount={"secure": 4, "community": 8}),
        gpu(id="NVIDIA H200"),
        gpu(price={"secure": 5.01, "community": 0.1}),
    ],
)
def test_what_cannot_be_had_or_does_not_fit_is_no_offer(row: object, script: Script, runpod: Provider) -> None:
    script.on("GET /v2/catalog/gpus", reply({"gpus": [row]}))
    assert runpod.search(QUERY) == ()


@pytest.mark.parametrize(
    "row",
    [
        gpu(price={}),
        gpu(price=None),
        gpu(price={"secure": "cheap"}),
        gpu(maxCount=8),
        gpu(memory=None),
        "H100",
        gpu(cudaVersions=[{"version": "new", "available": True}]),
    ],
)
def test_a_type_that_reads_oddly_is_an_error(row: object, script: Script, runpod: Provider) -> None:
    script.on("GET /v2/catalog/gpus", reply({"gpus": [row]}))
    with pytest.raises(ProviderUnavailable):
        runpod.search(QUERY)


@pytest.mark.parametrize("demand", [{"min_reliability": 0.95}, {"min_inet_down_mbps": 200.0}])
def test_a_demand_that_runpod_cannot_answer_is_refused_by_name(demand: Any, script: Script, runpod: Provider) -> None:
    with pytest.raises(BadInput, match=next(iter(demand))) as caught:
        runpod.search(OfferQuery(("H100",), 8, 150.0, 40.0, **demand))
    assert f"{next(iter(demand))} = 0" in str(caught.value.remedy)
    assert not script.asked


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("H100", ("H100 SXM", "H100 NVL", "H100 PCIe")),
        ("h100_sxm", ("H100 SXM",)),
        ("A100 PCIE", ("A100 PCIe",)),
        ("RTX 4090", ("RTX 4090",)),
    ],
)
def test_names_that_people_type(asked: str, names: tuple[str, ...]) -> None:
    assert gpu_names(asked) == names


@pytest.mark.parametrize(
    ("gpu_id", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("AMD Instinct MI300X OAM", "AMD Instinct MI300X OAM"),
    ],
)
def test_names_are_those_of_the_published_table(gpu_id: str, name: str) -> None:
    assert gpu_name(gpu_id) == name


# --- renting ------------------------------------------------------------------------------------


def offered(script: Script, runpod: Provider) -> Any:
    script.on("GET /v2/catalog/gpus", reply({"gpus": [gpu()]}))
    return runpod.search(QUERY)[0].id


def test_a_pod_is_asked_for_as_the_description_has_it(script: Script, runpod: Provider) -> None:
    offer = offered(script, runpod)
    script.on("POST /v2/pods", reply(pod(), 201))
    assert runpod.create(offer, REQUEST) == ID
    (asked,) = script.requests("POST /v2/pods")
    started = asked.body.pop("args")
    assert asked.body == {
        "name": "gsh-demo-0a1b2c3d",
        "image": "pytorch/pytorch:2.1.0",
        "cloud": "SECURE",
        "gpu": {"id": "NVIDIA H100 80GB HBM3", "count": 8, "minCudaVersion": "12.4"},
        "disk": 150,
        "mounts": {"persistent": {"size": 150, "path": "/workspace"}},
        "ports": ["22/tcp"],
        "env": {"PUBLIC_KEY": PUBLIC_KEY},
        "startSsh": True,
    }
    assert started.startswith("bash -c '")
    assert started.count("'") == 2
    assert END in started
    assert all(line.replace("'", "") in started for line in SCRIPT.strip().splitlines())


def test_where_args_is_unknown_the_spelling_of_the_newest_client_is_tried(script: Script, runpod: Provider) -> None:
    offer = offered(script, runpod)
    refused = problem(422, errors=["$: additional properties 'args' not allowed"])
    script.on("POST /v2/pods", refused, reply(pod(), 201))
    assert runpod.create(offer, REQUEST) == ID
    first, second = (asked.body for asked in script.requests("POST /v2/pods"))
    assert "args" in first
    assert "args" not in second
    assert second["cmd"][:2] == ["bash", "-c"]


REFUSALS: dict[str, tuple[Said, type[Exception]]] = {
    "no capacity": (problem(400, "Bad Request"), OfferGone),
    "a wrong request": (problem(422, errors=["$.disk: minimum 1"]), BadInput),
    "another field unknown": (problem(422, errors=["$: additional properties 'mounts' not allowed"]), BadInput),
    "no credit": (problem(402), ProviderUnavailable),
    "no right": (problem(403), ProviderUnavailable),
    "no key": (problem(401), ProviderUnavailable),
    "limited": (Said(429, b"slow down"), ProviderUnavailable),
    "server error": (problem(500), AmbiguousCreate),
    "gateway": (Said(502, b"<html>"), AmbiguousCreate),
    "timed out there": (problem(408), AmbiguousCreate),
    "400 of somebody else's": (Said(400, b"<html>bad request</html>"), AmbiguousCreate),
    "404 of somebody else's": (reply({"message": "not found"}, 404), AmbiguousCreate),
    "no id": (reply(pod(id=None), 201), AmbiguousCreate),
    "an id with a slash": (reply(pod(id="../x"), 201), AmbiguousCreate),
    "a list": (reply([pod()], 201), AmbiguousCreate),
    "accepted": (reply({}, 202), AmbiguousCreate),
    "dropped": (DROP, AmbiguousCreate),
    "hanging": (HANG, AmbiguousCreate),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_create_that_did_not_succeed_is_sent_once(how: str, script: Script, runpod: Provider) -> None:
    offer = offered(script, runpod)
    said, error = REFUSALS[how]
    script.on("POST /v2/pods", said)
    with pytest.raises(error) as caught:
        runpod.create(offer, REQUEST)
    assert isinstance(caught.value, AmbiguousCreate) == (error is AmbiguousCreate)
    assert len(script.requests("POST /v2/pods")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        CreateRequest("image", 150.0, "", PUBLIC_KEY),
        CreateRequest("image", 150.0, "x" * 200, PUBLIC_KEY),
        CreateRequest("image", 9.0, "label", PUBLIC_KEY),
        CreateRequest("image", 150.0, "label"),
    ],
)
def test_a_request_that_cannot_be_is_not_sent(wrong: CreateRequest, script: Script, runpod: Provider) -> None:
    offer = offered(script, runpod)
    with pytest.raises(BadInput):
        runpod.create(offer, wrong)
    assert not script.requests("POST /v2/pods")


# --- pods ---------------------------------------------------------------------------------------


def test_a_pod_is_read_as_the_description_has_it(script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", reply(pod()))
    seen = runpod.instance(ID)
    assert seen is not None
    assert (seen.id, seen.label, seen.status) == (ID, "gsh-demo-0a1b2c3d", InstanceStatus.RUNNING)
    assert (seen.gpu_name, seen.num_gpus, seen.disk_gb) == ("H100 SXM", 8, 20.0)
    assert seen.usd_per_hour == pytest.approx(21.52 + 70 * 0.10 / 730)
    assert seen.endpoints == (Endpoint("195.26.233.3", 34446, "direct"),)
    assert (seen.started_at, seen.ends_at, seen.is_bid, seen.volumes) == (1_780_315_200.0, None, False, ())


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("PROVISIONING", (InstanceStatus.PROVISIONING, "running", False)),
        ("STARTING", (InstanceStatus.LOADING, "running", False)),
        ("RUNNING", (InstanceStatus.RUNNING, "running", False)),
        ("EXITED", (InstanceStatus.STOPPED, "stopped", False)),
        ("ERROR", (InstanceStatus.EXITED, "running", True)),
        ("MIGRATING", (InstanceStatus.UNKNOWN, "running", False)),
    ],
)
def test_a_state_is_the_ports(word: str, told: tuple[object, ...], script: Script, runpod: Any) -> None:
    script.on(f"GET {ONE}", reply(pod(status=word, ssh={"proxy": None, "direct": None})))
    seen = runpod.instance(ID)
    assert (seen.status, seen.intended_status, seen.failure is not None) == told
    assert seen.endpoints == ()


def test_a_stopped_pod_bills_its_volume_twice_as_dear(script: Script, runpod: Any) -> None:
    script.on(f"GET {ONE}", reply(pod(status="EXITED", cost=0.0)))
    seen = runpod.instance(ID)
    assert seen.usd_per_hour == seen.disk_usd_per_hour == pytest.approx(20 * 0.20 / 730)


@pytest.mark.parametrize("gone", [problem(404, "Not Found"), reply(pod(status="TERMINATED"))])
def test_gone_is_what_the_service_itself_calls_so(gone: Said, script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", gone)
    assert runpod.instance(ID) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "another"},
        {"id": 5},
        {"status": 1},
        {"cost": None},
        {"disk": "much"},
        {"mounts": None},
        {"ssh": None},
        {"ssh": {"direct": {"host": "-x", "port": 22}}},
        {"ssh": {"direct": {"host": "1.2.3.4", "port": 70_000}}},
        {"createdAt": "yesterday"},
        {"createdAt": "2026-06-01T12:00:00"},
        {"gpu": {"id": "NVIDIA H200", "count": "many"}},
    ],
)
def test_a_pod_that_reads_oddly_is_an_error(fields: Any, script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", reply(pod(**fields)))
    with pytest.raises(ProviderUnavailable):
        runpod.instance(ID)


def test_a_cpu_pod_and_a_gpu_without_a_count_are_read(script: Script, runpod: Any) -> None:
    script.on(f"GET {ONE}", reply({name: value for name, value in pod().items() if name != "gpu"}))
    assert (runpod.instance(ID).gpu_name, runpod.instance(ID).num_gpus) == ("", 0)
    script.on(f"GET {ONE}", reply(pod(gpu={"id": "NVIDIA L4"})))
    assert (runpod.instance(ID).gpu_name, runpod.instance(ID).num_gpus) == ("L4", 1)


def page(*ids: str, more: object = None, cursor: object = None) -> Said:
    told = {"hasNextPage": more, "nextCursor": cursor} if more is not None else None
    return reply({"pods": [pod(id=one) for one in ids]} | ({"pagination": told} if told else {}))


def test_the_list_is_every_page_of_it(script: Script, runpod: Provider) -> None:
    script.on("GET /v2/pods", page("a1", "b2", more=True, cursor="next"), page("c3", more=False))
    assert runpod.instances().ids() == {InstanceId("a1"), InstanceId("b2"), InstanceId("c3")}
    first, second = (asked.query for asked in script.requests("GET /v2/pods"))
    assert first == {"includeClusterPods": "true"}
    assert second == {"includeClusterPods": "true", "cursor": "next"}


@pytest.mark.parametrize(
    "pages",
    [
        (page("a1", more=True, cursor="x"), page("b2", more=True, cursor="x")),
        (page("a1", more=True, cursor=None),),
        (page("a1", more="yes", cursor="x"),),
        (page("a1", more=True, cursor="x"), problem(500)),
        (page("a1", "a1"),),
        (reply({"pods": [pod(), "b2"]}),),
        (reply({"pods": None}),),
        (reply([pod()]),),
    ],
)
def test_a_list_that_is_not_whole_is_an_error(pages: tuple[Said, ...], script: Script, runpod: Provider) -> None:
    script.on("GET /v2/pods", *pages)
    with pytest.raises(ProviderUnavailable):
        runpod.instances()


def test_a_deleted_pod_in_the_list_is_no_instance(script: Script, runpod: Provider) -> None:
    script.on("GET /v2/pods", reply({"pods": [pod(id="a1"), pod(id="b2", status="TERMINATED")]}))
    assert runpod.instances().ids() == {InstanceId("a1")}


@pytest.mark.parametrize(
    ("said", "answer"),
    [(Said(204), DestroyReply.ACCEPTED), (problem(404, "Not Found"), DestroyReply.NO_SUCH_INSTANCE)],
)
def test_a_destroy_is_asked_once(said: Said, answer: DestroyReply, script: Script, runpod: Provider) -> None:
    script.on(f"DELETE {ONE}", said)
    assert runpod.destroy(ID) is answer
    assert len(script.requests(f"DELETE {ONE}")) == 1


@pytest.mark.parametrize("said", [problem(409), problem(429), Said(200), Said(202), Said(404, b"")])
def test_a_destroy_that_was_not_accepted_is_no_destroy(said: Said, script: Script, runpod: Provider) -> None:
    script.on(f"DELETE {ONE}", said)
    with pytest.raises(ProviderUnavailable):
        runpod.destroy(ID)


@pytest.mark.parametrize("action", ["start", "stop"])
def test_an_action_is_named_in_the_body(action: str, script: Script, runpod: Provider) -> None:
    script.on(f"POST {ONE}/action", reply(pod()))
    getattr(runpod, action)(ID)
    (asked,) = script.requests(f"POST {ONE}/action")
    assert asked.body == {"action": action}
    script.on(f"POST {ONE}/action", reply(pod(id="another")))
    with pytest.raises(ProviderUnavailable):
        getattr(runpod, action)(ID)


# --- keys ---------------------------------------------------------------------------------------


def test_a_key_is_attached_when_the_pod_was_made_with_it(script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", reply(pod(env={"PUBLIC_KEY": f"ssh-rsa BBBB other\n{PUBLIC_KEY}"})))
    runpod.attach_key(ID, PUBLIC_KEY)
    for env in ({}, {"PUBLIC_KEY": "ssh-ed25519 CCCC other"}):
        script.on(f"GET {ONE}", reply(pod(env=env)))
        with pytest.raises(ProviderUnavailable, match="created without this SSH key"):
            runpod.attach_key(ID, PUBLIC_KEY)
    with pytest.raises(BadInput):
        runpod.attach_key(ID, "ssh-ed25519")


FIRST, SECOND = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFirst", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAISecond"


def event(line: object, source: str = "container") -> str:
    data = json.dumps({"ts": "2026-06-01T12:02:03Z", "source": source, "line": line})
    return f"id: 2026-06-01T12:02:03Z/1\ndata: {data}\n\n"


def stream(*events: str, kind: str = "text/event-stream; charset=utf-8") -> Said:
    return Said(200, "".join(events).encode(), {"Content-Type": kind})


def block(key: str) -> tuple[str, ...]:
    begin = END.replace("END", "BEGIN")
    return event(begin), event(key), event(END)


def test_host_keys_come_from_the_log_of_the_container_over_tls(script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", reply(pod()))
    spoof = event(END.replace("END", "BEGIN"), "system")
    script.on(f"GET {ONE}/logs", stream(spoof, event("hello"), *block(FIRST), event("training"), *block(SECOND)))
    assert runpod.host_keys(ID) == (FIRST,)
    assert runpod.host_keys(ID, newest=True) == (SECOND,)
    asked = script.requests(f"GET {ONE}/logs")[0]
    assert asked.query == {"source": "container", "since": "2026-06-01T12:00:00Z"}


@pytest.mark.parametrize(
    "said",
    [
        problem(404),
        problem(403),
        stream(*block(FIRST), kind="application/json"),
        Said(200, b""),
        Said(500, b"x", {"Content-Type": "text/event-stream"}),
        DROP,
    ],
)
def test_a_log_that_is_no_stream_shows_no_keys_and_says_so(said: Said, script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", reply(pod()))
    script.on(f"GET {ONE}/logs", said)
    with pytest.raises(ProviderUnavailable):
        runpod.host_keys(ID)


@pytest.mark.parametrize("odd", ["data: {", "data: []", 'data: {"source": "container", "line": 5}', ": ping", "data"])
def test_what_is_no_event_of_the_container_is_passed_over(odd: str, script: Script, runpod: Provider) -> None:
    script.on(f"GET {ONE}", reply(pod()))
    script.on(f"GET {ONE}/logs", stream(f"{odd}\n\n", *block(FIRST)))
    assert runpod.host_keys(ID) == (FIRST,)


# --- money --------------------------------------------------------------------------------------


def test_charges_are_told_by_day_and_kind(script: Script, runpod: Provider) -> None:
    script.on("GET /v2/billing/pods", billed(record(1), record(2, gpu=0.0), record(1, who="another")))
    charged = runpod.charges(ID)
    assert charged == (
        Charge(ID, "gpu", 2.0, 1_780_272_000.0, 1_780_358_400.0),
        Charge(ID, "disk", 0.5, 1_780_272_000.0, 1_780_358_400.0),
        Charge(ID, "disk", 0.5, 1_780_358_400.0, 1_780_444_800.0),
    )
    (asked,) = script.requests("GET /v2/billing/pods")
    assert asked.query["podId"] == str(ID)
    assert asked.query["bucketSize"] == "day"
    assert asked.query["startTime"].endswith("T00:00:00Z")


@pytest.mark.parametrize(
    "said",
    [
        billed(record(), count=2),
        reply({"records": [record()]}),
        reply({"records": None, "metadata": {"recordCount": 0}}),
        billed({**record(), "podId": None}),
        billed({**record(), "gpuAmount": "much"}),
        billed({**record(), "endTime": None}),
    ],
)
def test_a_bill_that_is_not_whole_is_an_error(said: Said, script: Script, runpod: Provider) -> None:
    script.on("GET /v2/billing/pods", said)
    with pytest.raises(ProviderUnavailable):
        runpod.charges(ID)


def test_bills_and_volumes_are_told_by_numbers_of_their_texts(script: Script, runpod: Provider) -> None:
    volume = {"id": "2q9m7x4c", "name": "data", "size": 100, "dataCenter": "US-KS-2", "type": "STANDARD"}
    script.on("GET /v2/network-volumes", reply({"networkVolumes": [volume]}))
    mount = {"network": [{"volumeId": "2q9m7x4c", "path": "/data"}]}
    script.on("GET /v2/pods", reply({"pods": [pod(mounts=mount), pod(id="other")]}))
    script.on("GET /v2/billing/pods", billed(record(1), record(2), record(1, gpu=0, disk=0, who="free")))
    of_volume = {**record(), "networkVolumeId": "2q9m7x4c", "totalAmount": 3.0}
    script.on("GET /v2/billing/network-volumes", billed(of_volume))
    (seen,) = runpod.volumes()
    assert (seen.id, seen.label, seen.size_gb, seen.usd_per_hour) == (number_of("2q9m7x4c"), "data", 100.0, None)
    assert seen.instances == (ID,)
    assert {(bill.kind, bill.id, bill.usd) for bill in runpod.bills()} == {
        ("instance", ID, 5.0),
        ("volume", number_of("2q9m7x4c"), 3.0),
    }
    assert all(bill.since is not None and bill.since < bill.until for bill in runpod.bills())


def test_a_volume_without_its_name_is_an_error(script: Script, runpod: Provider) -> None:
    script.on("GET /v2/pods", reply({"pods": []}))
    script.on("GET /v2/network-volumes", reply({"networkVolumes": [{"id": None, "size": 10}]}))
    with pytest.raises(ProviderUnavailable):
        runpod.volumes()


def test_every_belief_has_a_number_of_its_own_and_a_source() -> None:
    assert [number for number, _, _ in ASSUMPTIONS] == [f"R-{at:02}" for at in range(1, len(ASSUMPTIONS) + 1)]
    assert all(claim and source for _, claim, source in ASSUMPTIONS)


def test_an_answer_may_depend_on_what_was_asked(script: Script, runpod: Provider) -> None:
    def told(asked: Asked) -> Said:
        return reply(pod(id=asked.path.rpartition("/")[2]))

    script.on("GET /v2/pods/12345", told)
    seen = runpod.instance(InstanceId(12345))
    assert seen is not None
    assert seen.id == InstanceId(12345), "an id of digits is the number that the command line reads it as"
