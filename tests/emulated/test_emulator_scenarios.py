"""Every scenario of the library: its faults really strike, and a careful renter ends as the scenario says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from harness.core import shipped
from harness.core.errors import BadInput
from harness.emulator.box.container import can_isolate
from harness.emulator.rental import Timing
from harness.emulator.running import running
from harness.emulator.scenario import Scenario, load, names
from harness.job.load import load_job
from tests.support.careful_renter import LABEL, Held, Renter
from tests.support.emulator_kit import FAST, key_pair


def quick(name: str) -> Scenario:
    """The scenario, its own slowness kept and everything else made fast."""
    found, usual = load(name), asdict(Timing())
    own = {key: value for key, value in asdict(found.pace).items() if value != usual[key]}
    return found.model_copy(update={"pace": Timing(**{**FAST, **own})})


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_careful_renter_ends_as_the_scenario_says(name: str, tmp_path: Path) -> None:
    scenario = quick(name)
    if any(event.do == "disk" for event in scenario.life) and not can_isolate():
        pytest.skip("a full disk needs an isolated box")
    with running(tmp_path / "state", scenario=scenario) as emulator:
        renter = Renter(emulator.url, emulator.key, emulator.clock, key_pair(tmp_path), tmp_path / "model.gguf")
        end = "closed"
        try:
            renter.run()
        except Held as reason:
            end = f"held: {reason}"
        mine = [rental for rental in emulator.world.rentals().values() if rental.label == LABEL]
        struck = emulator.world.faults.struck()
        assert end.split(":")[0] == scenario.ends, end
        assert all(fault in struck for fault in (*scenario.api, *scenario.ssh, *scenario.life)), "a fault never struck"
        if scenario.ends == "closed":
            assert (tmp_path / "model.gguf").stat().st_size == 1_000_000
            assert not mine
        else:
            assert len(mine) == 1
            assert (tmp_path / f"state/boxes/{mine[0].id}/root/workspace").is_dir() or mine[0].boots == 0
        if scenario.rate_limits:
            assert any(status == 429 for _, status in renter.asked)


def test_a_calm_life(tmp_path: Path) -> None:
    calm = Scenario(name="calm", pace=Timing(**FAST))
    with running(tmp_path / "state", scenario=calm) as emulator:
        renter = Renter(emulator.url, emulator.key, emulator.clock, key_pair(tmp_path), tmp_path / "model.gguf")
        renter.run()
        assert not emulator.world.rentals()


def test_every_scenario_says_what_happened(subtests: pytest.Subtests) -> None:
    for name in names():
        with subtests.test(name):
            assert load(name).about.endswith(".")
            assert load(name).name == name


def test_what_befalls_a_file_at_a_byte_befalls_the_demos_model_too(subtests: pytest.Subtests) -> None:
    model = load_job(shipped.folder("examples") / "local.toml").artifact.floor_bytes
    for name in names():
        with subtests.test(name):
            found = load(name)
            assert all(fault.after_bytes < model for fault in found.ssh)
            assert all(event.bytes < model for event in found.life if event.do in {"damage", "disk"})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense = 1", "nonsense"),
        ("[[api]]\nroute = 'GET /x'\ndo = 'explode'", "api.0.do"),
        ("[[api]]\nroute = 'FETCH /x'\ndo = 'drop'", "api.0.route"),
        ("[[ssh]]\ndo = 'cut'\nafter_byte = 3", "ssh.0.after_byte"),
        ("market = 'own'", "needs at least one"),
        ("not toml", "not TOML"),
    ],
)
def test_a_scenario_that_is_misspelt_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=named):
        load(file)


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(BadInput) as refused:
        load("no-such-thing")
    assert "create-reply-lost" in refused.value.remedy


def test_the_documentation_lists_every_scenario_with_its_story_and_end() -> None:
    text = (Path(__file__).parents[2] / "docs/emulator.md").read_text("utf-8")
    for name in names():
        found = load(name)
        assert f"| `{name}` | {found.about} | {found.ends} |" in text


def test_the_documentations_scenario_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/emulator.md").read_text("utf-8")
    file = tmp_path / "documented.toml"
    file.write_text(text.partition("```toml\n")[2].partition("```")[0])
    found = load(file)
    assert (len(found.api), len(found.ssh), len(found.life)) == (1, 1, 1)
