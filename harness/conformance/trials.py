"""Trials that speak through the port alone, for every provider; each looks for one belief. In the order of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from harness.conformance.bench import RunBench
from harness.core.errors import HostUnreachable, NoAnswer, NotProven
from harness.core.money import for_traffic, usd
from harness.core.ports import DestroyReply, InstanceStatus
from harness.core.text import human_seconds, printable
from harness.providers.assumptions import NEVER, Box, CannotTry, Disproved, Phase
from harness.providers.scoped_keys import ALLOWED, REFUSED, Scope

SHOWN_S, LATE_S = 60.0, 180.0
RUNS_S = STARTS_S = 600.0
LOGGED_S = LOGIN_S = 120.0
STOPS_S = 300.0
CHARGED_S = 600.0
_LOGINS = 8
_FILE = "gsh-trial"
_ALLOWED_AGE_S = 900.0
_PRICE_SHARE = 0.01
_CENT = 0.01

_DOWN = frozenset({InstanceStatus.STOPPED, InstanceStatus.EXITED})


def require(*, that: bool, seen: str) -> str:
    """Words for what was seen, where the belief holds; raises Disproved with it where not."""
    if not that:
        raise Disproved(seen)
    return seen


# --- before anything is rented ----------------------------------------------------------------


def account(bench: RunBench) -> str:
    """A number that stays, and a credit."""
    again = bench.subject.provider.account()
    return require(that=again.user_id == bench.account.user_id > 0, seen="the same number twice, and a credit")


def server_time(bench: RunBench) -> str:
    """Time of the provider's own, beside ours."""
    at = bench.subject.provider.account().at
    if at is None:
        raise Disproved("no reply told a time")
    return f"{at - bench.clock.now():+.0f} s beside this machine's clock"


def missing(bench: RunBench) -> str:
    """Nothing, for a number that nobody has."""
    return require(that=bench.subject.provider.instance(NEVER) is None, seen=f"instance {NEVER} is answered with none")


def listing(bench: RunBench) -> str:
    """A list that reads, whole."""
    return f"{len(bench.subject.provider.instances().instances)} instances, as many as announced"


def volumes(bench: RunBench) -> str:
    """A list that reads; it is what is there before the run."""
    return f"{len(bench.volumes_before())} volumes"


def bills(bench: RunBench) -> str:
    """Bills that read."""
    return f"{len(bench.subject.provider.bills())} contracts were charged"


def everyday_key(bench: RunBench) -> str:
    """A key for people and agents, tried act by act."""
    return _scoped(bench, Scope.EVERYDAY)


def working_key(bench: RunBench) -> str:
    """A key for the harness, tried act by act."""
    return _scoped(bench, Scope.WORKING)


def _scoped(bench: RunBench, scope: Scope) -> str:
    with bench.scoped_key(scope) as (issuer, key):
        lacking = [f"may not {act}" for act in ALLOWED[scope] if not issuer.may(key.secret, act)]
        excess = [f"may {act}" for act in REFUSED[scope] if issuer.may(key.secret, act)]
    return require(
        that=not lacking and not excess,
        seen=f"it {'; '.join([*lacking, *excess])}" if lacking or excess else f"refused: {', '.join(REFUSED[scope])}",
    )


# --- after the create -------------------------------------------------------------------------


def created(bench: RunBench) -> str:
    """The number that the create was answered with."""
    lost = bench.lost_reply
    if lost is None:
        return f"the reply told its number, {bench.number()}"
    seen = printable(str(lost), 300)
    raise (CannotTry if lost.__cause__ is None or isinstance(lost.__cause__, NoAnswer) else Disproved)(seen)


def shown(bench: RunBench) -> str:
    """The instance by its number."""
    provider, number = bench.subject.provider, bench.number()
    found, _ = bench.until(lambda: provider.instance(number), SHOWN_S - bench.rented_for())
    return require(that=found is not None, seen=_after(found is not None, bench.rented_for(), "shown"))


def listed(bench: RunBench) -> str:
    """The instance in the list."""
    provider, number = bench.subject.provider, bench.number()
    found, _ = bench.until(lambda: number in provider.instances().ids() or None, SHOWN_S - bench.rented_for())
    return require(that=found is not None, seen=_after(found is not None, bench.rented_for(), "listed"))


def label(bench: RunBench) -> str:
    """The label that it was created with."""
    provider, number = bench.subject.provider, bench.number()
    bench.until(lambda: provider.instance(number), LATE_S)
    kept = bench.shown().label or ""
    seen = f"{len(kept)} of {len(bench.label)} characters"
    return require(that=kept == bench.label, seen=seen if bench.label.startswith(kept) else f"another label, {seen}")


def bare(bench: RunBench) -> str:
    """No volume in it."""
    mounted = bench.shown().volumes
    return require(that=not mounted, seen=f"volumes {mounted}" if mounted else "no volume is mounted")


# --- while it runs ----------------------------------------------------------------------------


def runs(bench: RunBench) -> str:
    """Running at last, or a word why never: a host that fails says nothing about the provider."""
    found, after_s = bench.until(lambda: one if (one := bench.shown()).failure or _up(one.status) else None, RUNS_S)
    if found is None:
        raise CannotTry(f"it was {bench.shown().status} after {after_s:.0f} s: this host may be slow")
    if found.failure:
        raise CannotTry(f"this host failed: {printable(found.failure, 200)}")
    bench.ran = True
    return _after(True, after_s, "running")


def machine(bench: RunBench) -> str:
    """GPU, how many, disk."""
    it, offer = bench.running(), bench.offer
    seen = f"{it.num_gpus}x {it.gpu_name}, {it.disk_gb:g} GB"
    same = (it.gpu_name, it.num_gpus) == (offer.gpu_name, offer.num_gpus)
    return require(that=same and abs(it.disk_gb - bench.disk_gb) < 1, seen=seen)


def price(bench: RunBench) -> str:
    """Price by the hour beside the one that was shown."""
    now, then = bench.running().usd_per_hour, bench.offer.usd_per_hour
    return require(that=abs(now - then) <= then * _PRICE_SHARE, seen=f"${now:.4f}/h, offered at ${then:.4f}/h")


def times(bench: RunBench) -> str:
    """When it began and when it ends, by the provider's clock."""
    it, now = bench.running(), bench.subject.provider.account().at or bench.clock.now()
    if it.started_at is None or it.ends_at is None:
        raise Disproved(f"started {it.started_at}, ends {it.ends_at}")
    seen = f"began {now - it.started_at:.0f} s ago, ends in {human_seconds(it.ends_at - now)}"
    slack = bench.rented_for() + _ALLOWED_AGE_S
    return require(that=-_ALLOWED_AGE_S <= now - it.started_at <= slack and it.ends_at > now, seen=seen)


def host_keys(bench: RunBench) -> str:
    """Host keys over the provider's own TLS."""
    keys, after_s = bench.until(lambda: bench.read_host_keys() or None, LOGGED_S)
    return require(that=bool(keys), seen=_after(bool(keys), after_s, f"{len(keys or ())} keys there"))


def key_attached(bench: RunBench) -> str:
    """A login with a key that nobody but this run has."""
    let_in, after_s = bench.until(bench.try_login, LOGIN_S)
    return require(that=bool(let_in), seen=_after(bool(let_in), after_s, "let in"))


def pinned(bench: RunBench) -> str:
    """The key that the box shows, among those that the provider showed."""
    if not bench.known_keys:
        raise CannotTry("the provider showed no host key")
    shown_key = " ".join(bench.box().host_key().split()[:2])
    return require(that=shown_key in bench.known_keys, seen=f"it shows its {shown_key.split()[0]} key")


def command(bench: RunBench) -> str:
    """A command's output, byte for byte."""
    word = bench.nonce
    done = bench.box().run(["printf", "%s", word])
    alone = (done.status, done.stdout) == (0, word.encode())
    seen = "its output and nothing else" if alone else f"status {done.status}, {printable(repr(done.stdout[:80]), 100)}"
    return require(that=alone, seen=seen)


def direct(bench: RunBench) -> str:
    """A login over the machine's own port."""
    return _over(bench, "direct")


def proxy(bench: RunBench) -> str:
    """A login over the provider's proxy."""
    return _over(bench, "proxy")


def _over(bench: RunBench, route: str) -> str:
    for box in bench.boxes(route, 1):
        try:
            box.host_key()
        except HostUnreachable as error:
            raise Disproved(printable(str(error), 200)) from error
    return "it lets us in"


def eight_logins(bench: RunBench) -> str:
    """As many connections at one moment as a download opens."""

    def login(box: Box) -> str | None:
        try:
            box.host_key()
        except HostUnreachable as error:
            return printable(str(error), 120)
        return None

    route = bench.running().endpoints[-1].route
    with ThreadPoolExecutor(_LOGINS) as pool:
        problems = [one for one in pool.map(login, bench.boxes(route, _LOGINS)) if one is not None]
    seen = [f"{_LOGINS - len(problems)} of {_LOGINS} over the {route} route", *problems[:1]]
    return require(that=not problems, seen="; ".join(seen))


# --- stopped and started again ----------------------------------------------------------------


def stops(bench: RunBench) -> str:
    """Stopped, a file of ours on its disk."""
    bench.running()
    if bench.let_in:
        done = bench.box().run(["sh", "-c", f"printf %s {bench.nonce} > {_FILE}"])
        bench.wrote = done.status == 0
    bench.forget_host_key()
    bench.subject.provider.stop(bench.number())
    bench.stopped, after_s = bench.until(lambda: bench.shown().status in _DOWN or None, STOPS_S)
    return require(that=bool(bench.stopped), seen=_after(bool(bench.stopped), after_s, "stopped"))


def starts(bench: RunBench) -> str:
    """Running once more; the host may have rented its GPUs out meanwhile."""
    if not bench.stopped:
        raise CannotTry("it was never stopped")
    bench.ran = False
    bench.subject.provider.start(bench.number())
    found, after_s = bench.until(lambda: _up(bench.shown().status) or None, STARTS_S)
    if not found:
        raise CannotTry(f"it was {bench.shown().status} after {after_s:.0f} s: its GPUs may be rented out")
    bench.ran = True
    return _after(True, after_s, "running")


def key_stays(bench: RunBench) -> str:
    """A login with the key that was attached before."""
    if not bench.let_in:
        raise CannotTry("the key never let us in")
    let_in, after_s = bench.until(lambda: bench.try_login(attach=False), LOGIN_S)
    return require(that=bool(let_in), seen=_after(bool(let_in), after_s, "let in"))


def keeps_disk(bench: RunBench) -> str:
    """The file of ours, read again."""
    if not bench.wrote:
        raise CannotTry("no file could be written before the stop")
    found = bench.box().run(["cat", _FILE])
    kept = found.stdout == bench.nonce.encode()
    return require(that=kept, seen="a file that was written before is there" if kept else "a file of ours is gone")


def newest_keys(bench: RunBench) -> str:
    """Host keys of the newest start, the box's own among them."""
    if not bench.known_keys:
        raise CannotTry("the provider showed no host key")
    shown_key = " ".join(bench.box().host_key().split()[:2])
    newest, after_s = bench.until(lambda: shown_key in bench.read_host_keys(newest=True) or None, LOGGED_S)
    return require(that=bool(newest), seen=_after(bool(newest), after_s, "named by the log"))


# --- after the destroy ------------------------------------------------------------------------


def asked(bench: RunBench) -> str:
    """The provider's first answer to the destroy."""
    first = bench.replies[0] if bench.replies else None
    if first is None or isinstance(first, NoAnswer):
        raise CannotTry(str(first or "it was gone before it was asked"))
    return require(that=first is DestroyReply.ACCEPTED, seen=str(first))


def gone(bench: RunBench) -> str:
    """Gone by the proof that a job's teardown takes."""
    if bench.gone_at is None:
        raise Disproved("it still shows, or its absence could not be seen")
    seen = f"proven {bench.gone_after_s:.0f} s after the first of {len(bench.replies)} requests"
    return require(that=len(bench.replies) == 1, seen=seen)


def charged(bench: RunBench) -> str:
    """A charge under its number."""
    found, after_s = bench.until(lambda: bench.charges() or None, CHARGED_S)
    kinds = ", ".join(sorted({one.kind for one in found or ()}))
    return require(that=bool(found), seen=_after(bool(found), after_s, f"{kinds} listed"))


def unbilled(bench: RunBench) -> str:
    """The end of its bill, by the proof that a job's teardown takes."""
    if not bench.charges():
        raise CannotTry("no charge is listed")
    try:
        return f"${bench.prove_unbilled():.4f} in all, and no more"
    except NotProven as error:
        raise Disproved(printable(str(error), 300)) from error


def bill_agrees(bench: RunBench) -> str:
    """The bill beside time and prices."""
    billed = sum(one.usd for one in bench.charges())
    if not billed:
        raise CannotTry("no charge is listed")
    offer = bench.offer
    traffic = for_traffic(bench.traffic_bytes, offer.usd_per_gb_down)
    most = usd(bench.existed_for(), offer.usd_per_hour) + traffic + _CENT
    return require(that=billed <= most, seen=f"${billed:.4f}, at most ${most:.4f} by its prices")


def leaves_nothing(bench: RunBench) -> str:
    """No volume that was not there before."""
    left = {one.id for one in bench.subject.provider.volumes()} - set(bench.volumes_before())
    return require(that=not left, seen=f"volumes {sorted(left)}" if left else "no volume that was not there before")


def _up(status: InstanceStatus) -> bool:
    return status is InstanceStatus.RUNNING


def _after(yes: bool, seconds: float, what: str) -> str:
    return f"{what} after {seconds:.0f} s" if yes else f"not {what} after {seconds:.0f} s"


SHARED: Mapping[Phase, tuple[Callable[[RunBench], str], ...]] = {
    Phase.BEFORE: (account, server_time, missing, listing, volumes, bills, everyday_key, working_key),
    Phase.CREATED: (created, shown, listed, label, bare),
    Phase.RUNNING: (
        runs,
        machine,
        price,
        times,
        host_keys,
        key_attached,
        pinned,
        command,
        direct,
        proxy,
        eight_logins,
    ),
    Phase.RESTARTED: (stops, starts, key_stays, keeps_disk, newest_keys),
    Phase.GONE: (asked, gone, charged, unbilled, bill_agrees, leaves_nothing),
}
"""Every shared trial by its moment; a trial is named as its function is."""
