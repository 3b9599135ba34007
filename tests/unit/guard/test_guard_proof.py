"""After the request: gone is what is proven; anything else is said not to be, and the next run finishes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from harness.core.errors import NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId
from harness.core.lifecycle import Stage
from harness.core.ports import DestroyReply, InstanceStatus, Listing
from harness.guard import destroy
from harness.ledger.events import Destroyed, DestroyIntended, DestroyRequested, Guarded, Reopened
from harness.ledger.kinds import JobEvent
from tests.support.context import Killed, World, make_world

INSTANCE = InstanceId(4711)
ROOT = Path(__file__).resolve().parents[3]
AUTH = ProviderUnavailable("the provider answered 404 auth_error: Invalid user key")
RETIRED = ProviderUnavailable("the list answered 410 deprecated_endpoint")
EMPTY = ProviderUnavailable("the provider answered 200 with an empty body")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A job before its teardown."""
    made = make_world(tmp_path, monkeypatch, fast=True)
    made.run(until=Stage.POSTDOWNLOAD)
    return made


def _not_proven(world: World) -> None:
    with pytest.raises(NotProven) as raised:
        world.run()
    assert raised.value.exit_code == 6
    assert Destroyed not in world.kinds()
    assert world.history.destroyed is None
    assert world.history.held is not None
    assert world.history.alive is not None, "an instance not proven to be gone counts as billing"


def _finishes(world: World) -> None:
    world.provider.faults.clear()
    world.run()
    assert world.history.closed
    assert world.history.destroyed is not None
    assert not world.market.rented
    assert world.history.destroyed.billing is not None


def test_accepted_but_not_done(world: World) -> None:
    world.provider.break_("destroy", DestroyReply.ACCEPTED, times=0)
    _not_proven(world)
    assert world.market.rented
    _finishes(world)
    assert world.kinds().count(DestroyIntended) == 2


@pytest.mark.parametrize("error", [AUTH, RETIRED, EMPTY])
def test_an_answer_to_the_delete_that_says_nothing(world: World, error: ProviderUnavailable) -> None:
    world.provider.break_("destroy", error, times=0)
    _not_proven(world)
    assert str(world.history.destroy_reply).startswith("unclear: ")
    _finishes(world)


@pytest.mark.parametrize("error", [AUTH, EMPTY])
def test_an_answer_that_was_lost_after_it_was_done(world: World, error: ProviderUnavailable) -> None:
    world.provider.break_("destroy", error, commit=True)
    world.run()
    assert world.history.closed
    assert world.provider.count("destroy") == 1


@pytest.mark.parametrize("method", ["instances", "account"])
@pytest.mark.parametrize("error", [AUTH, RETIRED, EMPTY])
def test_a_control_that_fails_proves_nothing(world: World, method: str, error: ProviderUnavailable) -> None:
    def break_later(event: JobEvent, done: bool) -> None:
        if isinstance(event, DestroyRequested) and done:
            world.provider.break_(method, error, times=0)

    with pytest.raises(NotProven):
        world.run(on_record=break_later)
    assert Destroyed not in world.kinds()
    _finishes(world)


def test_a_show_that_fails_proves_nothing(world: World) -> None:
    def break_later(event: JobEvent, done: bool) -> None:
        if isinstance(event, DestroyRequested) and done:
            world.provider.break_("instance", AUTH, times=0)

    with pytest.raises(NotProven, match="auth_error"):
        world.run(on_record=break_later)
    _finishes(world)


def test_another_account_sees_no_instance_and_proves_nothing(world: World) -> None:
    def change_key(event: JobEvent, done: bool) -> None:
        if isinstance(event, DestroyRequested) and done:
            world.market.user = 8

    with pytest.raises(NotProven, match="belongs to user 8"):
        world.run(on_record=change_key)
    world.market.user = 7
    _finishes(world)


def test_a_lagging_row_is_waited_for(world: World) -> None:
    world.market.lag = 4
    world.run()
    assert world.history.closed
    assert world.provider.count("destroy") == 1


def test_a_row_that_lags_too_long_is_proven_by_the_next_run(world: World) -> None:
    world.market.lag = 500
    _not_proven(world)
    world.market.lag = 0
    _finishes(world)


def test_a_listing_that_still_has_it_proves_nothing(world: World) -> None:
    instance = world.market.rented[INSTANCE]

    def haunt(event: JobEvent, done: bool) -> None:
        if isinstance(event, DestroyRequested) and done:
            world.provider.break_("instances", Listing((instance,)), times=0)

    with pytest.raises(NotProven, match="still listed"):
        world.run(on_record=haunt)
    _finishes(world)


def test_a_second_request_may_be_told_that_there_is_nothing(world: World) -> None:
    world.market.lag = 300
    _not_proven(world)
    world.provider.break_("destroy", DestroyReply.NO_SUCH_INSTANCE)
    world.market.lag = 3
    world.run()
    assert world.history.closed


def test_a_bill_that_goes_on_is_not_the_end(world: World) -> None:
    world.provider.break_("charges", (), times=0)
    with pytest.raises(NotProven, match="is gone, but"):
        world.run()
    assert world.history.destroyed is not None
    assert world.history.destroyed.billing is None
    assert not world.history.closed
    _finishes(world)
    assert world.provider.count("destroy") == 1
    assert len(world.history.destroyed.absence["looks"]) >= 3


@pytest.mark.parametrize(
    ("kind", "done"),
    [
        (Guarded, True),
        (DestroyIntended, False),
        (DestroyIntended, True),
        (DestroyRequested, False),
        (DestroyRequested, True),
        (Destroyed, False),
        (Destroyed, True),
    ],
)
def test_killed_around_the_request_the_next_run_finishes(world: World, kind: type[JobEvent], done: bool) -> None:
    def kill(event: JobEvent, after: bool) -> None:
        if (type(event), after) == (kind, done):
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    world.run()
    assert world.history.closed
    assert world.provider.count("destroy") == 1


@pytest.mark.parametrize("commit", [False, True])
def test_killed_in_the_midst_of_the_request(world: World, commit: bool) -> None:
    world.provider.break_("destroy", Killed(), commit=commit)
    with pytest.raises(Killed):
        world.run()
    assert world.history.destroy_intended
    assert world.history.destroy_reply is None
    world.run()
    assert world.history.closed
    assert world.provider.count("destroy") == (1 if commit else 2)


def test_a_verified_job_whose_instance_is_on_its_way_out_is_not_abandoned(world: World) -> None:
    """Its file is at home: to give it up would make the next run rent and train again."""
    world.provider.break_("destroy", Killed(), commit=True)
    with pytest.raises(Killed):
        world.run()
    with pytest.raises(Refused, match="behind its verified file") as refused:
        destroy.abandon(world.context(), lambda _sentence: True, lambda _: None)
    assert "harness destroy night" in str(refused.value.remedy)
    world.run()
    assert world.history.closed
    assert world.provider.count("create") == 1


def test_asked_again_everything_is_looked_at_again(world: World) -> None:
    """A second request is as irreversible as the first."""
    world.provider.break_("destroy", DestroyReply.ACCEPTED, times=0)
    _not_proven(world)
    assert world.history.verified is not None
    Path(world.history.verified.path).write_bytes(b"?")
    requests = world.provider.count("destroy")
    with pytest.raises(Refused, match="no longer matches"):
        destroy.destroy(world.context(), lambda _id, _file: "yes", lambda _: None)
    assert world.provider.count("destroy") == requests


def test_a_file_that_is_spoilt_after_the_intent_comes_home_again_before_anything_is_asked(world: World) -> None:
    def kill(event: JobEvent, done: bool) -> None:
        if isinstance(event, DestroyIntended) and done:
            raise Killed

    with pytest.raises(Killed):
        world.run(on_record=kill)
    assert world.history.verified is not None
    home = Path(world.history.verified.path)
    home.unlink()
    world.run()
    assert world.history.closed
    assert home.read_bytes() == world.box.artifact.read_bytes()
    assert world.kinds().count(Reopened) == 1


def test_a_box_that_falls_silent_after_the_request_is_not_said_to_be_untouched(world: World) -> None:
    world.market.lag = 10**6
    _not_proven(world)
    requests = world.provider.count("destroy")
    world.box.reachable = lambda: False
    _not_proven(world)
    assert world.provider.count("destroy") == requests, "what could not be looked at is not asked to go again"
    world.market.lag = 0
    _finishes(world)


def test_a_box_that_is_silent_before_the_request_is_left_alone(world: World) -> None:
    world.box.reachable = lambda: False
    with pytest.raises(Refused, match="could not be looked at"):
        world.run()
    assert world.provider.count("destroy") == 0


def test_a_stopped_instance_goes_too(world: World) -> None:
    world.market.change(INSTANCE, status=InstanceStatus.STOPPED)
    world.run()
    assert world.history.closed


def _destroy_calls(source: str) -> list[int]:
    """The lines on which something's ``destroy`` is called or handed on."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr == "destroy")
        or (isinstance(node, ast.Constant) and node.value == "destroy" and isinstance(node.value, str))
    ]


_OTHER_MEANINGS = {
    "harness/cli/main.py": "registers the command, which goes through the guard",
    "harness/runner/teardown.py": "calls the guard",
    "harness/providers/vast": "is the provider's own method, and its pace",
    "harness/providers/rate_limits.py": "names the pace of the call",
    "harness/emulator": "is the service that is asked, and not a caller",
    "harness/shellguard": "judges other programs' commands by their words",
    "harness/fleet/engine.py": "ends a client of DBOS",
    "harness/fleet/worker.py": "ends DBOS in this process",
    "harness/fleet/file.py": "a word by which the fleet file agrees",
    "harness/ledger/timings.py": "a part of a job's time",
}


def test_only_the_guard_calls_destroy() -> None:
    found = {}
    for folder in ("harness", "checks", "training_pkg", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = _destroy_calls(path.read_text(encoding="utf-8"))
            name = path.relative_to(ROOT).as_posix()
            if lines and not any(name == known or name.startswith(f"{known}/") for known in _OTHER_MEANINGS):
                found[name] = lines
    assert set(found) == {"harness/guard/destroy.py", "harness/guard/throwaway.py"}, found
    assert "provider().destroy(" not in (ROOT / "harness/runner/teardown.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("call", ["context.provider().destroy(1)", "getattr(p, 'destroy')(1)", "f = p.destroy"])
def test_a_call_elsewhere_would_be_seen(call: str) -> None:
    assert _destroy_calls(call)
