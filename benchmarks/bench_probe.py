"""How long a stage's look at the box takes beside pytest-testinfra: the same 30 facts over a long line.

    python -m benchmarks.bench_probe --rtt-ms 100 --rounds 5

A real sshd on the loopback, behind the proxy of this folder. The facts are whether each of ten files
is there, its size and its SHA-256; both sides must see the same. "one connection" is what a stage does:
the connection stands already, as it does in a job and between testinfra's own tests. "from nothing"
logs in first. Medians of wall seconds.

The rival is pytest-testinfra with its paramiko backend.

Bar: on one connection, a tenth of the rival's seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import rounds, table
from benchmarks.bench_transport import way
from benchmarks.local_sshd import SSHD, LocalSshd
from benchmarks.table import Row
from harness.core.clock import SystemClock
from harness.core.questions import DigestOf, Glob
from harness.remote.host import SshHost

FILES = 10
BARS = {"one connection": 0.1, "from nothing": None}
Facts = dict[str, tuple[bool, int, str]]


def ours(host: SshHost, names: list[str]) -> Facts:
    """One round trip for everything."""
    looks = {name: (Glob(name), DigestOf(name)) for name in names}
    answers = host.probe([question for pair in looks.values() for question in pair], timeout=60)
    found: Facts = {}
    for name, (glob, digest) in looks.items():
        entries = answers[glob].get()
        found[name] = (bool(entries), entries[0].bytes, str(answers[digest].get().sha256))
    return found


def theirs(host: Any, names: list[str]) -> Facts:
    """One command a fact, as testinfra's tests ask."""
    files = {name: host.file(name) for name in names}
    return {name: (file.exists, file.size, file.sha256sum) for name, file in files.items()}


def rival(box: LocalSshd, port: int, folder: Path) -> Any:
    """A host of testinfra's that is not connected yet, with the same key; it does not look at the host's key."""
    from testinfra.backend import get_backend  # noqa: PLC0415 - a rival may be absent
    from testinfra.host import Host  # noqa: PLC0415

    config = folder / "ssh_config"
    config.write_text("Host 127.0.0.1\n  StrictHostKeyChecking no\n", encoding="utf-8")
    spec = f"paramiko://{box.login().user}@127.0.0.1:{port}"
    backend = get_backend(spec, ssh_config=str(config), ssh_identity_file=str(box.client_key))
    host = Host(backend)  # testinfra.get_host keeps hosts, and their connections, for the process
    backend.set_host(host)
    return host


def measure(box: LocalSshd, port: int, folder: Path, names: list[str], count: int) -> dict[str, list[float]]:
    """Seconds of every variant, round by round; raises when two variants saw different facts."""

    def fresh() -> Facts:
        host = SshHost(box.login(port), SystemClock())
        try:
            return ours(host, names)
        finally:
            host.close()

    standing = SshHost(box.login(port), SystemClock())
    variants: dict[str, Callable[[], Facts]] = {
        "harness, one connection": lambda: ours(standing, names),
        "harness, from nothing": fresh,
    }
    if find_spec("testinfra"):
        connected = rival(box, port, folder)
        variants["testinfra, one connection"] = lambda: theirs(connected, names)
        variants["testinfra, from nothing"] = lambda: theirs(rival(box, port, folder), names)
    expected = {name: (True, *told(box.home / name)) for name in names}

    def check(variant: str, found: Facts) -> None:
        if found != expected:
            raise RuntimeError(f"{variant} saw {found}, expected {expected}")

    actions = {name: rounds.timed(variant, partial(check, name)) for name, variant in variants.items()}
    try:
        rounds.in_turns(actions, 1)  # connects, and is not counted
        return rounds.in_turns(actions, count)
    finally:
        standing.close()


def told(path: Path) -> tuple[int, str]:
    """A file's size and digest, seen from here."""
    return path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """One row for each way to be connected."""
    if SSHD is None:
        table.unable("sshd is not installed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        box = LocalSshd(folder / "box")
        box.start()
        try:
            names = [f"file-{number}" for number in range(FILES)]
            for number, file in enumerate(names):
                (box.home / file).write_bytes(random.Random(number).randbytes(10_000 + number))
            with way(box, options.rtt_ms, 0) as port:
                seconds = measure(box, port, folder, names, 1 if options.quick else options.rounds)
        finally:
            box.stop()
    medians = {name: median(times) for name, times in seconds.items()}
    for start, bar in BARS.items():
        other = medians.get(f"testinfra, {start}")
        why = "" if other else f"not installed: {table.INSTALL}"
        what = f"{3 * FILES} facts, {options.rtt_ms:g} ms, {start}"
        yield Row(what, "pytest-testinfra", medians[f"harness, {start}"], other, bar, why=why)


if __name__ == "__main__":
    parser = table.parser(__doc__)
    parser.add_argument("--rtt-ms", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=5)
    table.run(parser.parse_args(), rows)
