"""Where the facts of each stage come from: files that were given, a hook, a look of now, or what a gate saw then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.core.errors import BadInput, GateUnknown
from harness.core.lifecycle import ADOPTED, ORDER, Stage
from harness.core.observed import CouldNotLook
from harness.gates.facts_file import UNTOLD, FactsFile, digest, read_facts
from harness.plugin import facts_source
from harness.plugin.facts_source import Gathered
from tests.support.facts import NOW, sound_job

GONE = "the instance of job night is gone: what was on it is judged by what its gates saw then"
BUNDLED = "job night is judged by its bundle: by what its gates saw then, and nobody is asked"


def told(stage: str, **facts: Any) -> FactsFile:
    return FactsFile(stage, sound_job(), NOW, 0.5, facts)


def options(**given: Any) -> Any:
    looked = given.pop("looked", lambda **_: None)
    option = {"facts": [], "bundle": None, "artifact": None, "job": None, **given}
    return SimpleNamespace(option=SimpleNamespace(**option), hook=SimpleNamespace(pytest_harness_look=looked))


class World:
    """A job at work, or over, and the looks that were taken at it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.job, self.ran_elsewhere, self.directory = "night", sound_job(), False, folder
        self.history = SimpleNamespace(stages=ORDER, destroyed=None, gates={})
        self.looks: list[str] = []
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        (folder / "evidence").mkdir()
        self.now: Mapping[str, Any] = {"generation": {"value": None}, "local": "now"}
        monkeypatch.setattr(facts_source, "_opened", lambda *_: self._open())

    @contextlib.contextmanager
    def _open(self) -> Iterator[World]:
        yield self

    def judged(self, stage: Stage, *, kept: bytes | None = None, **facts: Any) -> None:
        """The stage's gate was judged by these facts, of which ``kept`` is still there."""
        data = told(stage, **facts).dump()
        if kept is None or kept:
            (self.directory / "evidence" / f"{stage}.json").write_bytes(kept or data)
        place = rf"C:\jobs\night\evidence\{stage}.json"
        self.history.gates[stage] = SimpleNamespace(facts_path=place, facts_sha256=digest(data))

    def take_facts(self, stage: str) -> Any:
        self.looks.append(stage)
        path = self.scratch / f"look-{stage}.json"
        taken = told(stage, **self.now)
        path.write_bytes(taken.dump())
        return SimpleNamespace(path=path, facts=taken)

    def gather(self, *stages: str, **given: Any) -> Gathered:
        return facts_source.gather(list(stages), cast("pytest.Config", options(**given)), self.scratch)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def facts(gathered: Gathered, stage: str) -> Mapping[str, Any]:
    return read_facts(gathered.paths[stage]).facts


# --- files ----------------------------------------------------------------------------------


def files(folder: Path, *stages: str) -> list[Path]:
    paths = []
    for number, stage in enumerate(stages):
        paths.append(folder / f"{number}.json")
        paths[-1].write_bytes(told(stage).dump())
    return paths


def test_given_files_are_judged_in_the_order_that_was_asked_for_and_their_age_is_told(
    world: World, tmp_path: Path
) -> None:
    upload, launch = files(tmp_path, "upload", "launch")
    got = world.gather("launch,upload", facts=[upload, launch])
    assert list(got.paths.items()) == [("launch", launch), ("upload", upload)]
    assert set(got.recorded) == {"launch", "upload"}
    assert got.recorded["upload"].startswith("recorded facts of stage upload, seen 2027-01-15T08:00:00Z")
    assert got.recorded["upload"].endswith("the world is not looked at")
    assert (got.notes, world.looks) == ((), [])


@pytest.mark.parametrize(
    ("asked", "given", "words"),
    [
        ("upload", ("upload", "upload"), "two files for stage upload"),
        ("upload", ("upload", "launch", "install"), "has stage install, launch, --stage asks for upload"),
        ("upload,launch,install", ("launch",), "no file for stage upload, install"),
    ],
)
def test_files_that_are_not_those_that_were_asked_for_are_refused(
    world: World, tmp_path: Path, asked: str, given: tuple[str, ...], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        world.gather(asked, facts=files(tmp_path, *given))


def test_files_and_a_bundle_are_refused_together(world: World, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the facts of a bundle are its own"):
        world.gather("upload", facts=files(tmp_path, "upload"), bundle=Path("b.zip"))


# --- a look ---------------------------------------------------------------------------------


def test_a_job_at_work_is_looked_at_once_a_stage_and_nothing_is_said(world: World) -> None:
    world.judged(Stage.LAUNCH, seen="then")
    got = world.gather("launch,upload,launch")
    assert world.looks == ["launch", "upload"]
    assert facts(got, "launch") == world.now
    assert (got.recorded, got.notes) == ({}, ())


def test_what_was_on_an_instance_that_is_gone_is_judged_as_its_gate_saw_it(world: World) -> None:
    world.history.destroyed = object()
    world.judged(Stage.LAUNCH, seen="then")
    got = world.gather("launch,postdownload,teardown")
    assert list(got.paths) == ["launch", "postdownload", "teardown"]
    assert facts(got, "launch") == {"seen": "then"}
    assert world.looks == ["postdownload", "teardown"], "the file and the provider are still there"
    assert set(got.recorded) == {"launch"}
    assert got.notes == (GONE,)


def test_an_instance_that_is_gone_is_not_spoken_of_where_nothing_of_it_is_judged(world: World) -> None:
    world.history.destroyed = object()
    assert world.gather("teardown").notes == ()


def test_a_package_whose_gate_was_never_judged_is_looked_at_now_and_that_is_said(world: World) -> None:
    world.history.destroyed = object()
    got = world.gather("preflight")
    assert world.looks == ["preflight"]
    assert got.notes == ("no gate of preflight was judged in job night: it is looked at now, as things are today",)


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        (None, "its gate was never judged, and the instance is gone"),
        (b"", "what its gate was judged by cannot be read"),
        (b"{}", "launch.json is not what its gate was judged by: the event log names another SHA-256"),
    ],
)
def test_what_its_gate_saw_counts_only_as_the_log_names_it(world: World, kept: bytes | None, words: str) -> None:
    world.history.destroyed = object()
    if kept is not None:
        world.judged(Stage.LAUNCH, kept=kept)
    got = world.gather("launch")
    assert words in facts(got, "launch")[UNTOLD]
    assert (world.looks, got.recorded, got.notes) == ([], {}, ())


def test_all_stages_of_an_adopted_job_are_those_that_it_goes_through(world: World) -> None:
    world.history.stages = ADOPTED
    got = world.gather("all")
    assert list(got.paths) == [stage for stage in ORDER if stage in ADOPTED]
    (note,) = got.notes
    left = ", ".join(stage for stage in ORDER if stage not in ADOPTED)
    assert note == f"job night took its instance over: what {left} would look at, nobody can tell"
    named = world.gather(",".join(ORDER))
    assert (list(named.paths), named.notes) == (list(ORDER), ()), "a stage that is asked for by name is not left out"


# --- a bundle -------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [Stage.PREFLIGHT, Stage.LAUNCH, Stage.POSTDOWNLOAD, Stage.TEARDOWN])
def test_of_a_bundle_nothing_is_looked_at(world: World, stage: Stage) -> None:
    world.ran_elsewhere = True
    unjudged = world.gather(stage)
    assert facts(unjudged, stage) == {UNTOLD: "its gate was not judged before the bundle was made"}
    world.judged(stage, seen="then")
    got = world.gather(stage)
    assert facts(got, stage) == {"seen": "then"}
    assert world.looks == []
    assert unjudged.notes == got.notes == (BUNDLED,)
    assert got.recorded[stage].endswith("the world is not looked at")


THEN = {"companions": 1, "second_copy": 2, "generation": 3, "local": "then"}
UNSEEN = {"value": None, "problem": "it is not in the bundle, and its gate did not see it"}


@pytest.mark.parametrize(
    ("judged", "generated", "expected", "age"),
    [
        (True, None, THEN, "the artifact alone is looked at here, now"),
        (True, "words", {**THEN, "generation": {"value": "words"}}, "the artifact alone is looked at here, now"),
        (False, None, dict.fromkeys(THEN, UNSEEN), "nothing but the artifact is looked at here"),
        (None, None, dict.fromkeys(THEN, UNSEEN), "nothing but the artifact is looked at here"),
    ],
    ids=["as it was seen", "it generates here", "not judged", "spoilt"],
)
def test_an_artifact_beside_a_bundle_is_looked_at_and_the_rest_is_as_it_was_seen(
    world: World, judged: bool | None, generated: str | None, expected: Mapping[str, Any], age: str
) -> None:
    world.ran_elsewhere = True
    world.now = {"generation": {"value": generated}, "local": "now"}
    if judged is not False:
        world.judged(Stage.POSTDOWNLOAD, kept=None if judged else b"{}", **THEN)
    got = world.gather("postdownload,launch", artifact=Path("m.gguf"))
    assert facts(got, "postdownload") == {**expected, "local": "now"}
    assert world.looks == ["postdownload"]
    assert got.recorded["postdownload"].endswith(age)


def test_an_artifact_is_not_looked_at_where_its_stage_is_not_asked_for(world: World) -> None:
    world.ran_elsewhere = True
    world.gather("launch", artifact=Path("m.gguf"))
    assert world.looks == []


# --- stages of one's own --------------------------------------------------------------------


def test_a_stage_of_ones_own_is_looked_at_by_its_hook(world: World) -> None:
    got = world.gather("mine", looked=lambda stage, job: {"stage": stage, "job": job.name})
    assert facts(got, "mine") == {"stage": "mine", "job": sound_job().name}
    assert world.looks == []


def _blind(**_: Any) -> None:
    raise CouldNotLook("no answer within 5 s")


@pytest.mark.parametrize(
    ("looked", "error", "words"),
    [
        (lambda **_: None, BadInput, "no stage is named 'lunch': the stages are preflight"),
        (lambda **_: [1], BadInput, r"answered no JSON object for stage lunch: \[1\]"),
        (lambda **_: {"a": object()}, BadInput, "answered no JSON object for stage lunch: .*not JSON serializable"),
        (lambda **_: {("a", 1): 2}, BadInput, "answered no JSON object for stage lunch: keys must be str"),
        (lambda **_: {"a": "\ud800", "b": _circle()}, BadInput, "answered no JSON object .*Circular"),
        (_blind, GateUnknown, "stage lunch could not be looked at: no answer within 5 s"),
    ],
    ids=["nobody answers", "a list", "an object", "a key", "a circle", "blind"],
)
def test_an_answer_that_is_no_facts_is_told_in_words(
    world: World, looked: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        world.gather("lunch", looked=looked)
    if "no stage is named" in words:
        assert "Did you mean launch?" in str(getattr(raised.value, "remedy", ""))


def _circle() -> list[Any]:
    around: list[Any] = []
    around.append(around)
    return around


# --- which job ------------------------------------------------------------------------------


def test_a_bundle_has_one_job(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="leave out --job=night"):
        facts_source._opened(cast("pytest.Config", options(bundle=tmp_path / "b.zip", job="night")), tmp_path)
