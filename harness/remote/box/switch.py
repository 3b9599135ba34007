"""The dead man's switch: the box stops its own instance when nothing trains and nobody was heard from.

``arm`` keeps a key that can do nothing but that, readable by the owner alone, and leaves one process that watches; the
file says everything that it goes by, and is read anew at every look. It counts the seconds in which it saw neither a
living training nor a word of the harness (``harness.remote.box.heard``), each look no more than a few, so that no jump
of a clock and no pause of the machine counts. Then it asks for the stop, again and again, until it is stopped with the
instance, or heard from.
"""

# The box may have Python 3.8: typing's old names; and os.path throughout, as strings are what crosses the wire.
# ruff: noqa: PTH100, PTH103, PTH105, PTH107, PTH111, PTH116, PTH118, PTH120, PTH123
from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from typing import Any

from harness.remote.box import heard, session
from harness.remote.box.files import expand

POLL_S = 5.0
FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 600.0
REPLY_S = 60.0
REFUSED = (401, 403)


def main(request: Any) -> None:
    """One verb of ``arm``, ``disarm`` with its arguments; prints what came of it, a line of JSON."""
    session.answer(request, {"arm": arm, "disarm": disarm})


def arm(directory: str, key_id: int, after_s: float, stop: Any, *, trial: Any = None, key: Any = None) -> Any:
    """``{armed, came, said}``: watch with the key of that number, unless a process does.

    ``stop`` and ``trial`` are requests, of ``{method, url, body}``. A ``key`` that is brought must be refused the trial
    from here, or nothing is kept: ``came`` is what came of that. Without one it must be here already.
    ``said``: the last stop that was asked for, and how many seconds ago.
    """
    place = _place(directory)
    os.makedirs(place, mode=0o700, exist_ok=True)
    kept, said = _read(place, "armed"), _aged(_read(place, "said"))
    if key is None:
        if kept is None or kept["key_id"] != key_id:
            return {"armed": False, "came": None, "said": said}
        key = kept["key"]
    elif (came := send(trial, key)) not in REFUSED:
        return {"armed": False, "came": came, "said": said}
    _write(place, "armed", {"key": key, "key_id": key_id, "after_s": after_s, "stop": stop})
    word = os.path.expanduser(heard.FILE)
    os.makedirs(os.path.dirname(word), exist_ok=True)
    with open(word, "a"):
        os.utime(word)
    _spawn(directory, place)
    return {"armed": True, "came": None, "said": said}


def disarm(directory: str) -> Any:
    """Forget the key; whoever watches sees that, and ends."""
    _forget(_place(directory), "armed")


def watch(directory: str, place: str) -> None:
    """Ask for the stop once nothing trained and nobody was heard for so long; end when it is disarmed."""
    idle, due, pause, word, before = 0.0, 0.0, FIRST_PAUSE_S, None, time.monotonic()
    while True:
        kept = _read(place, "armed")
        if kept is None:
            return
        poll = min(POLL_S, kept["after_s"] / 10)
        now, last = time.monotonic(), word
        idle, before = idle + min(now - before, 2 * poll), now
        word = _word()
        if word != last or _trains(directory):
            idle, due, pause = 0.0, 0.0, FIRST_PAUSE_S
        elif idle >= max(due, kept["after_s"]):
            _ask(place, kept, idle)
            due, pause, before = idle + pause, min(2 * pause, LONGEST_PAUSE_S), time.monotonic()
        time.sleep(poll)


def send(request: Any, key: str) -> Any:
    """HTTP status of a request with the key; where there was no answer, why. It is sent nowhere else on a redirect."""
    import urllib.error  # noqa: PLC0415 - slow, and needed once
    import urllib.request  # noqa: PLC0415 - as above

    headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json", "User-Agent": "harness"}
    data = json.dumps(request["body"]).encode()
    made = urllib.request.Request(request["url"], data, headers, method=request["method"])  # noqa: S310 - the adapter's
    try:
        with urllib.request.urlopen(made, timeout=REPLY_S) as reply:  # noqa: S310 - as above
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 - whatever went wrong, it is asked again
        return (f"{type(error).__name__}: {error}")[:200]


def _ask(place: str, kept: Any, idle: float) -> None:
    """Ask once. It is written down first, for an answer may never be seen; a full disk stops nothing."""
    said = {"at": time.time(), "idle_s": idle, "came": None}
    with contextlib.suppress(OSError):
        _write(place, "said", said)
    came = send(kept["stop"], kept["key"])
    with contextlib.suppress(OSError):
        _write(place, "said", {**said, "came": came})


def _trains(directory: str) -> bool:
    """False when no process of the training lives; one that cannot be looked at may."""
    try:
        return bool(session.state(directory)["alive"])
    except Exception:  # noqa: BLE001 - in doubt it goes on
        return True


def _word() -> Any:
    """Mark of the last word that was left; it changes with every one."""
    try:
        return os.stat(os.path.expanduser(heard.FILE)).st_mtime_ns
    except OSError:
        return None


def _spawn(directory: str, place: str) -> None:
    """Leave one process that watches, in a session of its own, with nothing of this connection; it holds the lock."""
    lock = os.open(os.path.join(place, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return
    directory = os.path.abspath(expand(directory))
    if os.fork():
        os.close(lock)
        return
    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        os.chdir("/")  # or it would be taken for work in the job's directory
        watch(directory, place)
    finally:
        os._exit(0)


def _place(directory: str) -> str:
    return os.path.join(os.path.abspath(expand(directory)), ".harness", "switch")


def _aged(said: Any) -> Any:
    """The word with the seconds since, by this box's clock, in the place of its time."""
    if said is None:
        return None
    return {"ago_s": max(0.0, time.time() - said["at"]), "idle_s": said["idle_s"], "came": said["came"]}


def _read(place: str, name: str) -> Any:
    try:
        with open(os.path.join(place, name + ".json")) as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


def _write(place: str, name: str, told: Any) -> None:
    path = os.path.join(place, name + ".json")
    with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(told, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def _forget(place: str, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(place, name + ".json"))
