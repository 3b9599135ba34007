"""Kinds of provider: named by entry points, imported when opened, and an unknown one is never sent to another."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness import wiring
from harness.cli import main
from harness.core.clock import SystemClock
from harness.core.errors import BadInput
from harness.core.ports import OfferQuery, Provider
from harness.job.load import load_job
from harness.job.provider import ProviderTable
from harness.ledger.sql import open_store
from harness.providers import registry
from harness.providers.registry import BUILT_IN, GROUP, ProviderSettings
from harness.providers.vast.provider import VastProvider
from tests.support import toy_cloud
from tests.support.job_histories import Log, events_of, job

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[None]:
    with toy_cloud.installed(tmp_path / "site"):
        yield


def test_only_a_kind_of_this_package_is_embedded_and_whatever_else_there_is_costs_money() -> None:
    assert [kind for kind in BUILT_IN if registry.is_embedded(kind)] == ["emulated"]
    assert not registry.is_embedded("toycloud")
    assert [kind for kind in BUILT_IN if not registry.is_billed(kind)] == ["ssh"]
    assert registry.is_billed("toycloud")


@pytest.fixture
def no_vast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening Vast.ai fails the test."""

    def opened(*_: object, **__: object) -> NoReturn:
        pytest.fail("the Vast.ai client was constructed")

    monkeypatch.setattr(VastProvider, "__init__", opened)
    monkeypatch.setenv("VAST_API_KEY", "sesame")


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Types a ``harness`` command; its exit code and what it said."""
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "home"))

    def command(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((out + err).split())

    return command


def _declare(folder: Path, package: str, entry: str) -> None:
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Name: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{entry}\n")


def _job_file(folder: Path, provider: str) -> Path:
    text = (ROOT / "examples" / "forex-r1-v3.toml").read_text(encoding="utf-8")
    assert "[provider]" not in text
    file = folder / "job.toml"
    file.write_text(f"{text}\n[provider]\n{provider}\n", encoding="utf-8")
    return file


def _settings(kind: str, folder: Path) -> ProviderSettings:
    return ProviderSettings(kind, folder, SystemClock(), {})


def test_the_built_in_kinds_are_those_that_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"][GROUP] == BUILT_IN
    assert registry.DEFAULT in BUILT_IN


@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_built_in_kind_loads(kind: str) -> None:
    assert callable(registry.find(kind).load())


@pytest.mark.usefixtures("toy")
def test_an_installed_package_brings_a_kind_that_is_not_imported_until_it_is_opened(tmp_path: Path) -> None:
    assert registry.kinds() == tuple(sorted((*BUILT_IN, "toy")))
    assert registry.find("toy").value == "toy_cloud:open_provider"
    assert "toy_cloud" not in sys.modules
    with pytest.raises(BadInput, match="no key of the toy cloud"):
        registry.open_provider(_settings("toy", tmp_path))
    assert "toy_cloud" in sys.modules


def test_listing_kinds_imports_no_provider() -> None:
    code = "from harness.providers.registry import find, kinds; import sys; kinds(); find('vast'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    ours = {name for name in done.stdout.split() if name.startswith("harness.providers.")}
    assert ours == {"harness.providers.registry"}


@pytest.mark.usefixtures("toy", "no_vast")
def test_a_job_file_opens_the_provider_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_KEY", "sesame")
    table = load_job(_job_file(tmp_path, 'kind = "toy"')).provider
    opened: Provider = wiring.open_provider(table, tmp_path, SystemClock())
    assert opened.name == "toy"
    assert opened.search(OfferQuery(("H100",), 8, 20.0, 16.0))


@pytest.mark.usefixtures("toy", "no_vast")
def test_a_provider_is_opened_with_the_settings_of_its_own_that_a_job_file_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_KEY", "sesame")
    table = load_job(_job_file(tmp_path, 'kind = "toy"\nregion = "south"\nuser_id = 7\nkept_volumes = [3]')).provider
    assert (table.own, table.user_id, table.kept_volumes) == ({"region": "south"}, 7, (3,))
    for known in (table, ProviderTable.model_validate(table.model_dump(mode="json"))):
        opened = wiring.open_provider(known, tmp_path, SystemClock())
        assert [one.place for one in opened.search(OfferQuery(("H100",), 8, 20.0, 16.0))] == ["south", "south"]


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("toy|regoin = 'south'", "regoin: {no} 'toy' {has}; allowed: kind, user_id, kept_volumes, region"),
        ("toy|region = 'west'", r"region: Input should be 'north' or 'south' \(got 'west'\)"),
        ("toy|region = 5", "region: Input should be"),
        ("toy|scenario = 'calm'", "scenario: {no} 'toy' {has}"),
        ("toy|server_url = 'http://x'", "server_url: {no} 'toy' {has}"),
        ("vast|region = 'south'", "region: {no} 'vast' {has}; allowed: kind, user_id, kept_volumes, server_url"),
        ("vast|scenario = 'calm'", "scenario: {no} 'vast' {has}; allowed: kind, user_id, kept_volumes, server_url"),
        ("emulated|server_url = 'x'", "server_url: {no} 'emulated' {has}; allowed: kind, user_id, kept_volumes, scen"),
        ("emulated|scenario = 3", "scenario: Input should be a valid string"),
        ("toy|user_id = 'me'", "user_id: Input should be a valid integer"),
    ],
)
def test_a_setting_that_its_kind_does_not_know_or_refuses_is_named_with_its_line(
    table: str, said: str, tmp_path: Path
) -> None:
    kind, setting = table.split("|")
    wanted = said.format(no="a provider of kind", has="has no such setting")
    with pytest.raises(BadInput, match=r"line \d+: provider\." + wanted):
        load_job(_job_file(tmp_path, f'kind = "{kind}"\n{setting}'))


@pytest.mark.usefixtures("toy")
def test_a_kind_that_declares_no_settings_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _declare(tmp_path, "bare-cloud", "bare = bare_cloud:open_provider")
    (tmp_path / "bare_cloud.py").write_text("def open_provider(settings):\n    return settings\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_job(_job_file(tmp_path, 'kind = "bare"')).provider.own == {}
    with pytest.raises(BadInput, match=r"provider\.region: a provider of kind 'bare' has no such setting"):
        load_job(_job_file(tmp_path, 'kind = "bare"\nregion = "south"'))
    sys.modules.pop("bare_cloud", None)


def test_settings_that_an_earlier_version_recorded_open_the_provider(tmp_path: Path) -> None:
    told: dict[str, object] = {
        "kind": "emulated",
        "server_url": None,
        "scenario": None,
        "user_id": None,
        "kept_volumes": [],
    }
    assert ProviderTable.model_validate(told) == ProviderTable(kind="emulated")
    refused = ProviderTable.model_validate({"kind": "emulated", "scenario": 3})
    with pytest.raises(BadInput, match=r"kind 'emulated' cannot be opened with these settings: provider\.scenario: "):
        wiring.open_provider(refused, tmp_path, SystemClock())


def test_a_place_is_told_by_the_settings_that_the_kind_names_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _declare(tmp_path, "placed-cloud", "placed = placed_cloud:open_provider")
    (tmp_path / "placed_cloud.py").write_text(
        "class SETTINGS:\n    PLACE = ('region',)\n\ndef open_provider(settings):\n    return settings\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    own = {"region": "south", "pace": 3}
    assert registry.place("placed", own) == {"kind": "placed", "region": "south"}
    assert registry.place("vast", {"server_url": "x"}) == {"kind": "vast", "server_url": "x"}
    assert registry.place("nobody", own) == {"kind": "nobody", **own}, "its package is gone"
    sys.modules.pop("placed_cloud", None)


@pytest.mark.usefixtures("no_vast")
@pytest.mark.parametrize("kind", ["", "Vast", "vast ", "vast.ai", "nobody", "harness.providers.vast:open_provider"])
def test_an_unknown_kind_is_refused_and_never_sent_to_another(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"known here: emulated, .*vast") as refused:
        registry.open_provider(_settings(kind, tmp_path))
    assert "install the package" in refused.value.remedy
    with pytest.raises(BadInput, match=r"job\.toml: line \d+: provider\.kind: no provider is of kind"):
        load_job(_job_file(tmp_path, f'kind = "{kind}"'))
    with pytest.raises(BadInput, match="known here"):
        wiring.open_provider(ProviderTable(kind=kind), tmp_path, SystemClock())


@pytest.mark.usefixtures("no_vast")
def test_commands_refuse_an_unknown_kind_with_the_code_of_a_bad_input(
    tmp_path: Path, typed: Callable[..., tuple[int, str]]
) -> None:
    for words in (("orphans", "--provider", "nobody"), ("run", str(_job_file(tmp_path, 'kind = "nobody"')), "--plain")):
        code, said = typed(*words)
        assert code == BadInput.exit_code == 2
        assert f"no provider is of kind 'nobody'; known here: {', '.join(registry.kinds())}" in said


def test_a_job_that_has_begun_is_read_though_its_provider_is_gone(
    tmp_path: Path, typed: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "home").mkdir()
    log = Log(job(provider={"kind": "nobody"})).rented()
    store = open_store(tmp_path / "home" / "state.db", SystemClock())
    for event in events_of(log.records):
        store.append(log.job.name, event)
    code, said = typed("status")
    assert code == 0
    assert "instance 4711" in said


def test_nobody_else_is_sent_what_is_meant_for_a_built_in_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _declare(tmp_path, "greedy", "vast = greedy:open_provider")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.kinds() == tuple(sorted(BUILT_IN))
    assert registry.find("vast").value == BUILT_IN["vast"]


def test_a_kind_that_two_packages_bring_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _declare(tmp_path, "first", "cloud = first:open_provider")
    _declare(tmp_path, "second", "cloud = second:open_provider")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadInput, match=r"'cloud': (first, second|second, first)"):
        registry.find("cloud")


@pytest.mark.parametrize("source", [None, "import nowhere_at_all", "open_provider_ = 1"])
def test_a_package_that_does_not_load_says_how_to_mend_it(
    source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _declare(tmp_path, "broken-cloud", "cloud = broken_cloud:open_provider")
    if source is not None:
        (tmp_path / "broken_cloud.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadInput, match="'cloud' cannot be loaded from broken_cloud:open_provider") as refused:
        registry.open_provider(_settings("cloud", tmp_path))
    sys.modules.pop("broken_cloud", None)
    assert "pip install --force-reinstall broken-cloud" in refused.value.remedy


def test_the_settings_do_not_show_the_environment(tmp_path: Path) -> None:
    assert "sesame" not in repr(ProviderSettings("vast", tmp_path, SystemClock(), {"VAST_API_KEY": "sesame"}))


@pytest.mark.usefixtures("toy", "no_vast")
def test_the_page_s_job_table_and_command_work(
    monkeypatch: pytest.MonkeyPatch, typed: Callable[..., tuple[int, str]]
) -> None:
    (table,) = [tomllib.loads(text) for kind, title, text in toy_cloud.BLOCKS if kind == "toml" and not title]
    assert registry.find(table["provider"]["kind"])
    ((variable, *words),) = [text.split() for kind, _, text in toy_cloud.BLOCKS if kind == "bash"]
    monkeypatch.setenv(*variable.split("="))
    assert words[0] == "harness"
    none = "instances none volumes none costs, gone and not accounted for none"
    assert typed(*words[1:]) == (0, none)
