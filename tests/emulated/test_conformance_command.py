"""``harness conformance`` as a person types it: it asks, it says what bills, its report holds no secret."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.cli import conformance as cli
from harness.cli.screens import LastingConsole
from harness.conformance import report
from harness.core.ids import InstanceId, job_name
from harness.core.ports import CreateRequest
from harness.emulator.scenario import load
from harness.ledger.events import Opened
from harness.ledger.sql import open_store
from harness.ledger.throwaway import TrialStep
from harness.providers import emulated, registry
from harness.providers.vast.assumptions import ASSUMPTIONS
from harness.providers.vast.credentials import Credentials
from tests.support import toy_cloud
from tests.support.conformance_kit import Service, service
from tests.support.typing_commands import Typed, typing

pytest.importorskip("vastai")

PAGE = (Path(__file__).parents[2] / "docs/conformance.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return typing(monkeypatch, capsys)


Serve = Callable[..., Service]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """The service behind the operator's key; time on it is the command's own, and its boxes are folders."""
    with contextmanager(_serving)(tmp_path, monkeypatch) as start:
        yield start


def _serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    opened: list[Any] = []

    def start(**told: Any) -> Service:
        made = service(tmp_path / f"service-{len(opened)}", **told)
        served = made.__enter__()
        opened.append(made)
        served.home = tmp_path / "home"
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("HARNESS_HOME", str(served.home))
        monkeypatch.setenv("VAST_API_KEY", served.world.state.key)
        monkeypatch.setenv("VAST_URL", served.url)
        monkeypatch.setattr(cli, "SystemClock", lambda: served.clock)
        monkeypatch.setattr(cli, "open_trial_box", served.open_box)
        monkeypatch.setattr(
            emulated, "ensure_emulator", lambda *_, **__: Credentials(served.url, served.world.state.key)
        )
        return served

    served_home = tmp_path / "home"
    served_home.mkdir()
    try:
        yield start
    finally:
        for one in opened:
            one.__exit__(None, None, None)


def answering(monkeypatch: pytest.MonkeyPatch, answer: str | None) -> None:
    """A person at the terminal."""

    def read(*_: object, **__: object) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(LastingConsole, "input", read)


def reports(served: Service) -> list[Path]:
    return sorted(served.home.glob("conformance/*/conformance-*"))


def test_it_runs_to_its_end_and_leaves_a_report_without_secrets(serve: Serve, typed: Typed) -> None:
    served = serve()
    code, out, err = typed("conformance", "--provider", "vast", "--budget", "0.25", "--yes")
    assert code == 0, out + err
    assert "at most $0.25, of a budget of $0.25" in out
    assert "rents, for at most 31 min" in out
    data, markdown = reports(served)
    told = json.loads(data.read_text())
    assert [row["id"] for row in told["rows"]] == [row.id for row in ASSUMPTIONS]
    assert told["ended"] == "to its end"
    assert told["versions"]["vastai"]
    assert told["date"].endswith("Z")
    assert 0 < told["charged_usd"] < 0.25
    for text in (markdown.read_text(), data.read_text(), out, err):
        assert served.world.state.key not in text
        assert "PRIVATE KEY" not in text
    assert all(f"| {row.id} | " in markdown.read_text() for row in ASSUMPTIONS)
    assert not served.world.rentals()


@pytest.mark.parametrize("answer", ["no", "", "RENT", "yes", None])
def test_without_the_word_nothing_is_rented_or_made(
    answer: str | None, serve: Serve, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    answering(monkeypatch, answer)
    code, _, err = typed("conformance")
    assert code == 5, err
    assert "nobody agreed" in err
    assert not served.journals()
    assert {line["api_route"] for line in served.world.state.audit} <= {"POST /api/v0/bundles/"}


def test_with_the_word_it_goes(serve: Serve, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    serve()
    answering(monkeypatch, "rent")
    assert typed("conformance")[0] == 0


def test_without_a_terminal_nobody_is_asked(serve: Serve, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert typed("conformance")[0] == 5
    assert not served.journals()


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        ({"stop_keeps_disk": False}, 3, "V-52"),
        ({"pace": {"running_s": 1e5}}, 4, "V-30"),
        ({"api": [{"route": "DELETE /api/v0/instances/24000004", "do": "reply", "times": 0,
                   "body": '{"success": true}'}]}, 6, "MAY STILL BILL"),
        ({"api": [{"route": "* /*", "do": "reply", "status": 401, "times": 0, "body": '{"error": "auth_error"}'}]},
         7, "401"),
    ],
)  # fmt: skip
def test_it_ends_with_the_documented_code(
    told: dict[str, Any], code: int, said: str, serve: Serve, typed: Typed
) -> None:
    served = serve(**told)
    found, out, err = typed("conformance", "--yes")
    assert found == code, out + err
    assert said in out + err
    assert bool(reports(served)) == (code != 7)
    assert f"| {code} | " in PAGE or code == 7


def test_ctrl_c_ends_the_instance_and_the_report_says_so(
    serve: Serve, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "open_trial_box", pressed)
    code, out, _ = typed("conformance", "--yes")
    assert code == 130
    assert not served.world.rentals()
    assert "is proven to be gone" in out
    assert "harness conformance --provider vast --end" in out, "that its bill has ended is not proven"
    assert json.loads(reports(served)[0].read_text())["ended"] == "it was cut off"
    assert typed("conformance", "--end")[0] == 0
    assert not served.journals()[0].may_bill


def _cut_off(served: Service) -> InstanceId:
    """A run that was killed while its instance lived."""
    work = served.run()
    run = work.bench.run
    run.record(TrialStep.KEYS_INTENDED)
    run.record(TrialStep.RENT_INTENDED, label=run.label, offer={})
    number = work.bench.subject.provider.create(work.plan.offers[0].id, CreateRequest("ubuntu:22.04", 10.0, run.label))
    served.clock.turn(300.0)
    return number


def test_what_a_killed_run_left_is_shown_by_orphans_and_ended_first(serve: Serve, typed: Typed) -> None:
    served = serve()
    number = _cut_off(served)
    code, out, _ = typed("orphans", "--provider", "vast")
    assert code == 0
    assert re.search(rf"{number} .*cut off: harness conformance --provider vast --end ends it", out), out
    code, out, err = typed("conformance", "--yes")
    assert code == 0, out + err
    assert out.index("was cut off: ending what it has left") < out.index("rents, for at most")
    assert not served.world.rentals()
    _, out, _ = typed("orphans", "--provider", "vast")
    assert "conformance" not in out, "a run that saw its bill end is accounted for"


def test_end_alone_rents_nothing(serve: Serve, typed: Typed) -> None:
    served = serve()
    _cut_off(served)
    code, out, err = typed("conformance", "--end")
    assert code == 0, err
    assert "nothing of a conformance run is left" in out
    assert not served.world.rentals()
    assert not any(run.may_bill or run.keeps_keys for run in served.journals())
    assert len(served.journals()) == 1


def test_a_run_of_another_provider_is_left_alone(serve: Serve, typed: Typed) -> None:
    served = serve()
    _cut_off(served)
    assert typed("conformance", "--provider", "emulated", "--end")[0] == 0
    assert len(served.world.rentals()) == 1


def test_a_damaged_log_of_a_job_is_told_before_anything_is_rented(serve: Serve, typed: Typed) -> None:
    served = serve()
    store = open_store(served.home / "state.db", served.clock)
    store.append(job_name("night"), Opened(job={"name": "night"}, file="night.toml"))
    code, _, err = typed("conformance", "--yes")
    assert code == 10, err
    assert not served.journals()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--provider", "nowhere"), "no provider is of kind"),
        (("--scenario", "create-reply-lost"), "--provider emulated only"),
        (("--budget", "0"), "budget"),
        (("--budget", "lots"), "budget"),
        (("--budget", "nan"), "budget"),
        (("--budget", "inf"), "budget"),
    ],
)
def test_what_cannot_be_is_refused(words: tuple[str, ...], said: str, serve: Serve, typed: Typed) -> None:
    served = serve()
    code, _, err = typed("conformance", "--yes", *words)
    assert code == 2
    assert said in err
    assert not served.world.state.audit


def test_a_provider_of_which_nothing_is_written_down_says_so(serve: Serve, typed: Typed, tmp_path: Path) -> None:
    serve()
    with toy_cloud.installed(tmp_path / "toy"):
        code, _, err = typed("conformance", "--provider", "toy")
    assert code == 2
    assert "written down nowhere" in err


def test_the_list_needs_no_account(typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    code, out, _ = typed("conformance", "--provider", "vast", "--list")
    assert code == 0
    assert out == report.table(ASSUMPTIONS)


def test_the_page_shows_the_beliefs_as_they_are() -> None:
    shown = PAGE.partition("<!-- beliefs:begin -->\n")[2].partition("<!-- beliefs:end -->")[0]
    assert shown.strip() == report.table(ASSUMPTIONS).strip()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_runs(
    line: str, serve: Serve, typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = shlex.split(line)
    assert words[0] == "harness"
    spoiled = "--scenario" in words
    monkeypatch.chdir(tmp_path)
    for title, text in re.findall(r'^```toml title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL):
        Path(title).write_text(text, encoding="utf-8")
    serve(**load(words[-1]).model_dump(include={"stop_keeps_disk"}) if spoiled else {})
    answering(monkeypatch, "rent")
    code, out, err = typed(*words[1:])
    assert code == (3 if spoiled else 0), out + err
    assert ("V-52 does not hold" in out) == spoiled


def test_the_page_has_its_commands() -> None:
    assert len(COMMANDS) == 4
    assert "harness conformance --provider vast --budget 0.25" in COMMANDS


def test_both_kinds_of_the_service_believe_the_same() -> None:
    assert registry.assumptions("vast") is registry.assumptions("emulated") is ASSUMPTIONS
