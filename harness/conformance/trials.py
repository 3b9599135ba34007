"""Trials that speak through the port alone, for every provider, in the order of a run: one a belief."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from harness.conformance.bench import DISK_GB, TRAFFIC_BYTES, RunBench
from harness.core.errors import HostUnreachable, NoAnswer, NotProven
from harness.core.money import for_traffic, usd
from harness.core.ports import DestroyReply, InstanceStatus
from harness.core.text import human_seconds, printable
from harness.providers.assumptions import NEVER, Box, CannotTry, Found, Phase
from harness.providers.scoped_keys import ALLOWED, REFUSED, Scope

SHOWN_S, LATE_S, RUNS_S, READ_S, LOGIN_S, STOPS_S, CHARGED_S = 60.0, 180.0, 600.0, 120.0, 120.0, 300.0, 600.0
"""Seconds that something is waited for: shown and listed; then, at the latest; running; keys read; let in; ..."""

_LOGINS = 8
_FILE = "gsh-trial"
_AGE_SLACK_S = 900.0
_PRICE_SHARE = 0.01
_CENT = 0.01
_DOWN = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED})

Attempt = Callable[[RunBench], Found]


def _wait(look: Callable[[RunBench], object], limit_s: float, word: str, bench: RunBench) -> Found:
    """True once ``look`` sees something within the limit."""
    found, after_s = bench.until(lambda: look(bench) or None, limit_s)
    return bool(found), f"{'' if found else 'not '}{word} after {after_s:.0f} s"


# --- before anything is rented ----------------------------------------------------------------


def _account(bench: RunBench) -> Found:
    again = bench.provider.account()
    return again.user_id == bench.account.user_id > 0, "the account's number, asked for twice"


def _server_time(bench: RunBench) -> Found:
    at = bench.provider.account().at
    return at is not None, "no time" if at is None else f"{at - bench.clock.now():+.0f} s beside this machine's clock"


def _missing(bench: RunBench) -> Found:
    return bench.provider.instance(NEVER) is None, f"asked for instance {NEVER}"


def _scoped(scope: Scope, bench: RunBench) -> Found:
    with bench.scoped_key(scope) as (issuer, key):
        wrong = [f"may not {act}" for act in ALLOWED[scope] if not issuer.may(key.secret, act)]
        wrong += [f"may {act}" for act in REFUSED[scope] if issuer.may(key.secret, act)]
    return not wrong, f"it {'; '.join(wrong)}" if wrong else f"refused: {', '.join(REFUSED[scope])}"


# --- after the create -------------------------------------------------------------------------


def _created(bench: RunBench) -> Found:
    lost = bench.lost_reply
    if lost is not None and (lost.__cause__ is None or isinstance(lost.__cause__, NoAnswer)):
        raise CannotTry(str(lost))
    return lost is None, printable(str(lost or "the reply told its number"), 300)


def _since_create(look: Callable[[RunBench], object], word: str, bench: RunBench) -> Found:
    return _wait(look, SHOWN_S - bench.rented_for(), word, bench)


def _label(bench: RunBench) -> Found:
    bench.until(lambda: bench.provider.instance(bench.number()), LATE_S)
    kept, made = bench.shown().label or "", bench.run.label
    return kept == made, f"{len(kept)} of {len(made)} characters" if made.startswith(kept) else "another label"


def _bare(bench: RunBench) -> Found:
    mounted = bench.shown().volumes
    return not mounted, f"volumes mounted: {mounted or 'none'}"


def _price(bench: RunBench) -> Found:
    now, then = bench.shown().usd_per_hour, bench.offer.usd_per_hour
    return abs(now - then) <= then * _PRICE_SHARE, f"${now:.4f}/h, offered at ${then:.4f}/h"


# --- while it runs ----------------------------------------------------------------------------


def _runs(bench: RunBench) -> Found:
    """A host that fails says nothing about the provider."""
    if not _comes_up(bench):
        raise CannotTry(f"this host failed, or is slow: {bench.shown().status}, {bench.shown().failure or 'no reason'}")
    return True, f"after {bench.rented_for():.0f} s"


def _comes_up(bench: RunBench) -> bool:
    found, _ = bench.until(
        lambda: one if (one := bench.shown()).failure or one.status is InstanceStatus.RUNNING else None, RUNS_S
    )
    bench.ran = found is not None and not found.failure
    return bench.ran


def _machine(bench: RunBench) -> Found:
    it, offer = bench.running(), bench.offer
    same = (it.gpu_name, it.num_gpus) == (offer.gpu_name, offer.num_gpus)
    return same and abs(it.disk_gb - DISK_GB) < 1, f"{it.num_gpus}x {it.gpu_name}, {it.disk_gb:g} GB"


def _times(bench: RunBench) -> Found:
    it, now = bench.running(), bench.provider.account().at or bench.clock.now()
    if it.started_at is None or it.ends_at is None:
        return False, f"begins {it.started_at}, ends {it.ends_at}"
    age, left = now - it.started_at, it.ends_at - now
    holds = -_AGE_SLACK_S <= age <= bench.rented_for() + _AGE_SLACK_S and left > 0
    return holds, f"began {age:.0f} s ago, ends in {human_seconds(left)}"


def _pinned(bench: RunBench) -> Found:
    if not bench.known_keys:
        raise CannotTry("the provider showed no host key")
    shown = bench.shown_host_key()
    return shown in bench.known_keys, f"it shows its {shown.split()[0]} key"


def _command(bench: RunBench) -> Found:
    done = bench.box().run(["printf", "%s", bench.run.nonce])
    holds = (done.status, done.stdout) == (0, bench.run.nonce.encode())
    return holds, f"status {done.status}, output {printable(repr(done.stdout[:80]), 100)}"


def _login(box: Box) -> str | None:
    try:
        box.host_key()
    except HostUnreachable as error:
        return printable(str(error), 120)
    return None


def _logins(route: str, count: int, bench: RunBench) -> Found:
    """So many at one moment over one route."""
    with ThreadPoolExecutor(count) as pool:
        problems = [one for one in pool.map(_login, bench.boxes(route, count)) if one is not None]
    seen = [f"{count - len(problems)} of {count} over the {route} route", *problems[:1]]
    return not problems, "; ".join(seen)


def _eight_logins(bench: RunBench) -> Found:
    return _logins(bench.running().endpoints[-1].route, _LOGINS, bench)


# --- stopped and started again ----------------------------------------------------------------


def _stops(bench: RunBench) -> Found:
    bench.running()
    if bench.let_in:
        bench.wrote = bench.box().run(["sh", "-c", f"printf %s {bench.run.nonce} > {_FILE}"]).status == 0
    bench.forget_host_key()
    bench.provider.stop(bench.number())
    bench.stopped, seen = _wait(lambda one: one.shown().status in _DOWN, STOPS_S, "stopped", bench)
    return bench.stopped, seen


def _starts(bench: RunBench) -> Found:
    """Its GPUs may have been rented out meanwhile: that says nothing about the provider."""
    if not bench.stopped:
        raise CannotTry("it was never stopped")
    bench.provider.start(bench.number())
    if not _comes_up(bench):
        raise CannotTry(f"it is {bench.shown().status}: its GPUs may be rented out")
    return True, "it runs again"


def _key_stays(bench: RunBench) -> Found:
    if not bench.let_in:
        raise CannotTry("the key never let us in")
    return _wait(lambda one: one.try_login(attach=False), LOGIN_S, "let in", bench)


def _keeps_disk(bench: RunBench) -> Found:
    if not bench.wrote:
        raise CannotTry("no file could be written before the stop")
    kept = bench.box().run(["cat", _FILE]).stdout == bench.run.nonce.encode()
    return kept, "a file that was written before is there" if kept else "a file that was written before is not there"


def _newest_keys(bench: RunBench) -> Found:
    if not bench.known_keys:
        raise CannotTry("the provider showed no host key")
    shown = bench.shown_host_key()
    return _wait(lambda one: shown in one.read_host_keys(newest=True), READ_S, "named by the log", bench)


# --- after the destroy ------------------------------------------------------------------------


def _asked(bench: RunBench) -> Found:
    first = bench.replies[0] if bench.replies else None
    if first is None or isinstance(first, NoAnswer):
        raise CannotTry(str(first or "it was gone before it was asked"))
    return first is DestroyReply.ACCEPTED, str(first)


def _gone(bench: RunBench) -> Found:
    return len(bench.replies) == 1, f"proven after {bench.gone_after_s:.0f} s and {len(bench.replies)} requests"


def _unbilled(bench: RunBench) -> Found:
    bench.charged()
    try:
        return True, f"${bench.prove_unbilled():.4f} in all, and no more"
    except NotProven as error:
        return False, str(error)


def _bill_agrees(bench: RunBench) -> Found:
    billed, offer = bench.charged(), bench.offer
    most = usd(bench.existed_for(), offer.usd_per_hour) + for_traffic(TRAFFIC_BYTES, offer.usd_per_gb_down) + _CENT
    return billed <= most, f"${billed:.4f}, at most ${most:.4f} by its prices"


def _leaves_nothing(bench: RunBench) -> Found:
    left = {one.id for one in bench.provider.volumes()} - set(bench.volumes_before())
    return not left, f"volumes that were not there before: {sorted(left) or 'none'}"


SHARED: dict[Phase, dict[str, Attempt]] = {
    Phase.BEFORE: {
        "account": _account,
        "server_time": _server_time,
        "missing": _missing,
        "listing": lambda bench: (True, f"{len(bench.provider.instances().instances)} instances, all announced"),
        "volumes": lambda bench: (True, f"{len(bench.volumes_before())} volumes"),
        "bills": lambda bench: (True, f"{len(bench.provider.bills())} contracts were charged"),
        "everyday_key": partial(_scoped, Scope.EVERYDAY),
        "working_key": partial(_scoped, Scope.WORKING),
    },
    Phase.CREATED: {
        "created": _created,
        "shown": partial(_since_create, lambda one: one.provider.instance(one.number()), "shown"),
        "listed": partial(_since_create, lambda one: one.number() in one.provider.instances().ids(), "listed"),
        "label": _label,
        "bare": _bare,
        "price": _price,
    },
    Phase.RUNNING: {
        "runs": _runs,
        "machine": _machine,
        "times": _times,
        "host_keys": partial(_wait, RunBench.read_host_keys, READ_S, "shown"),
        "key_attached": partial(_wait, RunBench.try_login, LOGIN_S, "let in"),
        "pinned": _pinned,
        "command": _command,
        "direct": partial(_logins, "direct", 1),
        "proxy": partial(_logins, "proxy", 1),
        "eight_logins": _eight_logins,
    },
    Phase.RESTARTED: {
        "stops": _stops,
        "starts": _starts,
        "key_stays": _key_stays,
        "keeps_disk": _keeps_disk,
        "newest_keys": _newest_keys,
    },
    Phase.GONE: {
        "asked": _asked,
        "gone": _gone,
        "charged": partial(_wait, RunBench.charges, CHARGED_S, "listed"),
        "unbilled": _unbilled,
        "bill_agrees": _bill_agrees,
        "leaves_nothing": _leaves_nothing,
    },
}
"""Every shared trial by its moment and its name, in the order in which they are tried."""
