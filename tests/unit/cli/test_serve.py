"""``harness serve`` over real HTTP: it shows every job, follows its log, and answers only browsers of this machine."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.cli.live_pages import LIST, Pages, jobs_page
from harness.cli.live_server import HOST
from harness.core.ids import JobName
from harness.core.lifecycle import Stage
from harness.ledger.events import Held, StageEntered
from harness.report import html
from harness.wiring import open_ledger
from tests.support.fake_clock import FakeClock
from tests.support.job_histories import Log, events_of, job
from tests.support.reports import HOSTILE
from tests.support.serving import Serving, serving

HELD = Held(Stage.LAUNCH, "GateHeld", "the launch is held: no GPU shows")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A harness of its own, with nothing in it, and no key of any provider."""
    for name in ("VAST_API_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def served(home: Path) -> Iterator[Serving]:
    with serving(home) as found:
        yield found


def _named(name: str) -> Log:
    return Log(job().model_copy(update={"name": JobName(name)}))


def _words(text: str) -> str:
    told: list[str] = []

    class Words(HTMLParser):
        def handle_data(self, data: str) -> None:
            told.append(data)

    Words().feed(text)
    return " ".join(" ".join(told).split())


def test_an_empty_home_says_how_to_begin(served: Serving) -> None:
    answer = served.ask("/")
    assert answer.status == 200
    assert "No job has been run yet; harness demo runs one" in _words(answer.text)


def test_the_list_shows_what_bills_first(served: Serving) -> None:
    served.write(_named("a-closed").closed())
    served.write(_named("b-new"))
    served.write(_named("c-bills").rented())
    text = served.ask("/").text
    places = [text.index(f'href="/job/{name}"') for name in ("c-bills", "a-closed", "b-new")]
    assert places == sorted(places)
    assert "1 of 3 may bill." in _words(text)
    assert "bills $16.00/h" in _words(text)


def test_one_whose_price_is_not_known_is_before_all_that_bill() -> None:
    def row(name: str, state: str, price: float | None) -> dict[str, object]:
        bills = {"state": state, "usd_per_hour": price, "told": name}
        return {"job": name, "stage": "unreadable", "unreadable": "x", "remedy": "y", "bills": bills}

    rows = [row("cheap", "stopped", 0.03), row("none", "nothing", None), row("odd", "unknown", None)]
    text = jobs_page([*rows, row("dear", "running", 16.0)], "1")
    places = [text.index(f'id="job-{name}"') for name in ("odd", "dear", "cheap", "none")]
    assert places == sorted(places)


def test_a_jobs_page_is_its_report(served: Serving) -> None:
    served.write(_named("night").rented())
    answer = served.ask("/job/night")
    assert answer.status == 200
    told = _words(answer.text)
    assert "night" in told
    assert "UNDER WAY" in told
    assert "All jobs" in told
    assert "Provider's bill not asked for" in told, "nobody is asked"


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/job/nobody", 404, "there is no job 'nobody'"),
        ("/job/night/x", 404, "No such page"),
        ("/job/..%2F..%2Fstate.db", 404, "No such page"),
        ("/state.db", 404, "No such page"),
        ("/job/", 404, "No such page"),
        ("/job/%00%ff", 404, "No job"),
        ("//evil.example/", 404, "No such page"),
        ("/job/" + "x" * 5000, 404, "No job"),
        ("/job/%3Cscript%3Edocument.title%3D1", 404, "No job"),
        ("/?x=<script>", 200, "Jobs"),
    ],
)
def test_any_path_has_an_answer_in_words(served: Serving, path: str, status: int, told: str) -> None:
    served.write(_named("night"))
    answer = served.ask(path)
    assert answer.status == status
    assert told in _words(answer.text)
    assert "<script>" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_nothing_but_looking_is_allowed(served: Serving, method: str) -> None:
    answer = served.ask("/", method, body=b"x=1")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/job/night", "/job/night/events", "/events", "/nowhere"])
def test_head_has_the_headers_and_no_body(served: Serving, path: str) -> None:
    served.write(_named("night"))
    answer = served.ask(path, "HEAD")
    assert answer.text == ""
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:9000", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.nip.io", 403),
        ("localhost.evil.example", 403),
        ("evil.example#localhost", 403),
        ("169.254.169.254", 403),
        ("0.0.0.0", 403),
        ("[::1", 403),
        ("", 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/events", "/job/night"])
def test_another_name_is_not_answered(served: Serving, host: str, status: int, path: str) -> None:
    """DNS that names this machine otherwise (DNS rebinding) gets nothing."""
    served.write(_named("night"))
    assert served.ask(path, "HEAD", Host=host).status == status
    if status == 403:
        assert "night" not in served.ask(path, Host=host).text


def test_no_name_and_two_names_are_not_answered(served: Serving) -> None:
    for head in (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"):
        with socket.create_connection((HOST, served.server.server_port), timeout=10) as raw:
            raw.sendall(head)
            assert b" 403 " in raw.recv(200)


@pytest.mark.parametrize(
    ("site", "mode", "status"),
    [
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ],
)
def test_what_another_site_asks_for_in_secret_is_refused(served: Serving, site: str, mode: str, status: int) -> None:
    assert served.ask("/", Sec_Fetch_Site=site, Sec_Fetch_Mode=mode).status == status


def test_every_answer_is_locked_up(served: Serving) -> None:
    served.write(_named("night"))
    for path in ("/", "/job/night", "/nowhere"):
        answer = served.ask(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert policy.endswith("; frame-ancestors 'none'")
        assert "unsafe" not in policy
        assert not {"set-cookie", "access-control-allow-origin"} & set(answer.headers)
        assert answer.headers["cache-control"] == "no-store"
        assert policy.removesuffix("; frame-ancestors 'none'") in answer.text.replace("&#39;", "'")


def _next(stream: http.client.HTTPResponse) -> str:
    line = stream.readline().decode().strip()
    assert stream.readline() == b"\n"
    return line.removeprefix("data: ")


def test_a_stream_says_the_revision_and_says_it_again_when_it_is_another(served: Serving) -> None:
    served.write(_named("night").rented())
    served.write(_named("other"))
    connection = http.client.HTTPConnection(HOST, served.server.server_port, timeout=120)
    connection.request("GET", "/job/other/events")
    stream = connection.getresponse()
    assert stream.getheader("content-type") == "text/event-stream"
    first = _next(stream)
    assert f'data-revision="{first}"' in served.ask("/job/other").text
    served.append("night", HELD)
    served.append("other", StageEntered(Stage.PREFLIGHT))
    second = _next(stream)
    assert second != first
    while f'data-revision="{second}"' not in served.ask("/job/other").text:  # made anew once a second, no more
        pass
    connection.close()


class _Counting(Pages):
    """Pages that count how often one was made."""

    made = 0

    def _text(self, name: JobName, revision: str | None) -> str:
        _Counting.made += 1
        return super()._text(name, revision)


def test_thousands_of_events_make_no_page_more_often_than_once_a_second(home: Path) -> None:
    clock = FakeClock()
    with open_ledger(home) as ledger:
        store, pages = ledger.store, _Counting(ledger, clock)
        _Counting.made = 0
        store.append(JobName("night"), events_of(_named("night").records)[0])
        for _ in range(300):
            store.append(JobName("night"), HELD)
            pages.page(JobName("night"))
            clock.sleep(0.01)
        assert _Counting.made <= 4
        clock.sleep(1.1)
        assert pages.page(JobName("night")).revision == pages.revision(JobName("night"))


def test_money_goes_on_without_an_event_and_a_closed_job_stands_still(home: Path) -> None:
    clock = FakeClock()
    with serving(home) as served:
        served.write(_named("over").closed())
        served.write(_named("night").rented())
    with open_ledger(home) as ledger:
        pages = Pages(ledger, clock)
        before = {name: pages.revision(JobName(name)) for name in ("over", "night", LIST)}
        clock.sleep(61)
        after = {name: pages.revision(JobName(name)) for name in before}
    assert {name for name in before if before[name] != after[name]} == {"night", LIST}


def test_a_damaged_log_is_said_and_the_others_are_shown(served: Serving) -> None:
    import sqlite3

    served.write(_named("night").rented())
    served.write(_named("whole").rented())
    with sqlite3.connect(served.home / "state.db") as store:
        store.execute("UPDATE events SET data = '{}' WHERE job = 'night' AND seq = 3")
    store.close()
    assert "the log of job night" in _words(served.ask("/").text)
    answer = served.ask("/job/night")
    assert answer.status == 500
    assert "damaged" in _words(answer.text)
    assert served.ask("/job/whole").status == 200


def test_a_strangers_words_are_words(served: Serving) -> None:
    log = _named("night").rented()
    served.write(log)
    for word in HOSTILE:
        served.append("night", Held(Stage.LAUNCH, "GateHeld", word.replace("\ud800", "")))
        for path in ("/", "/job/night"):
            text = served.ask(path).text
            assert text.count("<script") == 1, "the page's own"
            assert "<img" not in text


def test_it_writes_nothing_but_what_every_look_makes(served: Serving) -> None:
    served.write(_named("night").rented())
    served.ask("/")
    before = sorted(served.home.rglob("*"))
    for path in ("/", "/job/night", "/job/nobody"):
        served.ask(path)
    assert sorted(served.home.rglob("*")) == before


def test_a_port_that_is_taken_is_said(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = _harness(home, "serve", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port} of 127.0.0.1 cannot be had" in done.stderr
    assert "--port 0" in done.stderr


def _harness(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HARNESS_HOME": str(home)}
    command = [sys.executable, "-m", "harness", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_it_in_peace_while_somebody_looks(home: Path) -> None:
    env = {**os.environ, "HARNESS_HOME": str(home)}
    command = [sys.executable, "-u", "-m", "harness", "serve", "--port", "0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().split()[0]
        port = int(address.rstrip("/").rpartition(":")[2])
        connection = http.client.HTTPConnection(HOST, port, timeout=120)
        connection.request("GET", "/events")
        connection.getresponse()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == ""
        connection.close()


def test_it_listens_on_the_loopback_address_alone(served: Serving) -> None:
    assert served.server.socket.getsockname()[0] == "127.0.0.1"


def test_too_many_streams_are_refused_and_pages_still_come(served: Serving) -> None:
    open_ones = []
    for _ in range(70):
        connection = http.client.HTTPConnection(HOST, served.server.server_port, timeout=120)
        connection.request("GET", "/events")
        open_ones.append((connection, connection.getresponse().status))
    assert {status for _, status in open_ones} == {200, 503}
    assert served.ask("/").status == 200
    for connection, _ in open_ones:
        connection.close()


def test_a_page_that_is_kept_in_a_file_has_no_script() -> None:
    assert "script" not in html.policy()
    assert "connect-src" not in html.policy()
