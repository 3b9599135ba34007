"""How fast a verified download is beside what people use: one run, side by side.

    python -m benchmarks.bench_transport                     # loopback, then two lines 100 ms long
    python -m benchmarks.bench_transport --mib 480 --rounds 1 --rtt-ms 100 --rate-mb 10

A real sshd on the loopback; with a round trip or a rate (of a connection), the proxy of this folder
stands between. Medians of wall seconds. Rivals with hashes "at both ends" do what a careful person does
by hand: copy, then hash both ends. Our row is told the digest beforehand, as the harness records it when
the training ends; "hash + harness" has the box compute it first.

Bars, as times the rival's speed: 0.95 of scp, 2.5 of scp with sha256sum, 1.1 of scp gcm with openssl dgst,
all on the loopback and for 1,536 MiB; 4 of scp at 100 ms and 40 MB/s, 4.5 at 10 MB/s; 150 MB of memory.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import rounds, table
from benchmarks.local_sshd import SSHD, LocalSshd
from benchmarks.table import Row
from harness.core.clock import SystemClock
from harness.core.ids import Sha256
from harness.core.ports import RemoteFile
from harness.core.questions import DigestOf
from harness.remote.host import SshHost

GCM = "aes128-gcm@openssh.com"
OURS, ASKED = "harness, verified", "hash + harness, verified"
TOOLS = ("sha256sum", "openssl", "rsync", "lftp", "rclone", "scp")
MEMORY_MB = 150


@dataclass(frozen=True, slots=True)
class Line:
    """A line to the box, what goes over it, and how much slower than a rival a download of ours may be there."""

    mib: int
    rounds: int
    rtt_ms: float = 0.0
    rate_mb: float = 0.0
    bars: tuple[tuple[str, float], ...] = ()

    @property
    def far(self) -> bool:
        """True when the proxy stands between."""
        return bool(self.rtt_ms or self.rate_mb)

    def __str__(self) -> str:
        rate = f", {self.rate_mb:g} MB/s" if self.rate_mb else ""
        return f"{self.mib} MiB, {self.rtt_ms:g} ms{rate}"


NEAR_BARS = (
    ("scp", 1 / 0.95),
    ("scp, sha256sum at both ends", 1 / 2.5),
    ("scp gcm, openssl dgst at both ends", 1 / 1.1),
)
FULL = (
    Line(1536, 3, bars=NEAR_BARS),
    Line(320, 1, 100, 40, (("scp", 1 / 4),)),
    Line(240, 1, 100, 10, (("scp", 1 / 4.5),)),
)
QUICK = (Line(240, 3), Line(160, 1, 100, 40))
"""Too small for the bars: login and start weigh too much."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One box, one file, one port that leads to it."""

    box: LocalSshd
    port: int
    remote: RemoteFile
    out: Path

    def options(self) -> list[str]:
        """Ssh options that log in to the box."""
        known = self.out.parent / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {self.box.login().host_keys[0]}\n")
        return ["-F", "none", "-i", str(self.box.client_key), "-o", f"UserKnownHostsFile={known}"]

    @property
    def address(self) -> str:
        """user@host."""
        return f"{self.box.login().user}@127.0.0.1"

    def scp(self, *, cipher: str | None = None) -> None:
        """Copy with scp."""
        chosen = ["-c", cipher] if cipher else []
        run(["scp", "-q", *self.options(), *chosen, "-P", str(self.port), f"{self.address}:model", str(self.out / "m")])

    def remotely(self, words: str) -> str:
        """The output of a command on the box."""
        return run(["ssh", *self.options(), "-p", str(self.port), self.address, words])

    def hash_both(self, tool: str) -> None:
        """Hash both ends and compare."""
        there = self.remotely(f"{tool} model")
        here = run([*tool.split(), str(self.out / "m")])
        if not set(there.split()) & set(here.split()) & {str(self.remote.sha256)}:
            raise RuntimeError(f"{tool}: {there} {here}")

    def verified_scp(self, tool: str, cipher: str | None = None) -> None:
        """Copy with scp, hash both ends."""
        self.scp(cipher=cipher)
        self.hash_both(tool)

    def rsync(self) -> None:
        """Copy with rsync."""
        shell = " ".join(["ssh", *self.options(), "-p", str(self.port)])
        run(["rsync", "--whole-file", "-e", shell, f"{self.address}:model", str(self.out / "m")])

    def lftp(self) -> None:
        """Copy with lftp's eight segments."""
        program = " ".join(["ssh", "-a", "-x", *self.options()])
        script = (
            f'set sftp:connect-program "{program}"; set cmd:fail-exit yes; open -u {self.box.login().user},x '
            f"-p {self.port} sftp://127.0.0.1; pget -n 8 -c model -o {self.out / 'm'}; exit"
        )
        run(["lftp", "-c", script])

    def rclone(self) -> None:
        """Copy with rclone's multi-thread streams over sftp."""
        key = str(self.box.client_key)
        known = self.options()[-1].split("=", 1)[1]
        login = f"host=127.0.0.1,port={self.port},user={self.box.login().user}"
        remote = f":sftp,{login},key_file={key},known_hosts_file={known}:{self.box.home / 'model'}"
        streams = ["--multi-thread-streams", "8", "--multi-thread-cutoff", "1M", "--sftp-disable-hashcheck"]
        run(["rclone", "--config", os.devnull, "copyto", *streams, remote, str(self.out / "m")])

    def harness(self, *, ask_first: bool = False) -> None:
        """Copy with this project."""
        host = SshHost(self.box.login(self.port), SystemClock())
        try:
            if ask_first:
                host.probe([asked := DigestOf("model")], timeout=600)[asked].get()
            host.fetch(self.remote, self.out / "m")
        finally:
            host.close()

    def variants(self) -> dict[str, Callable[[], None]]:
        """Name -> one copy."""
        return {
            OURS: self.harness,
            ASKED: lambda: self.harness(ask_first=True),
            "scp": self.scp,
            "scp gcm": lambda: self.scp(cipher=GCM),
            "scp, sha256sum at both ends": lambda: self.verified_scp("sha256sum"),
            "scp, openssl dgst at both ends": lambda: self.verified_scp("openssl dgst -sha256"),
            "scp gcm, sha256sum at both ends": lambda: self.verified_scp("sha256sum", GCM),
            "scp gcm, openssl dgst at both ends": lambda: self.verified_scp("openssl dgst -sha256", GCM),
            "rsync": self.rsync,
            "lftp pget -n 8": self.lftp,
            "rclone, 8 streams": self.rclone,
        }

    def arrived(self, _: None) -> None:
        """Insist that the whole file is here, and remove it."""
        if (self.out / "m").stat().st_size != self.remote.size:
            raise RuntimeError("a file of another size was left")
        (self.out / "m").unlink()


def run(command: list[str]) -> str:
    """Run to the end; the standard output. Raises on failure."""
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {ended.returncode}: {ended.stderr[-500:]}")
    return ended.stdout


@contextlib.contextmanager
def way(box: LocalSshd, rtt_ms: float, rate_mb: float) -> Iterator[int]:
    """Port of the box, behind a proxy process when a round trip or a rate is asked for."""
    if not rtt_ms and not rate_mb:
        yield box.port
        return
    command = [sys.executable, "-m", "benchmarks.delay_proxy", "--to", str(box.port)]
    proxy = subprocess.Popen(
        [*command, "--rtt-ms", str(rtt_ms), "--rate-mb", str(rate_mb)], stdout=subprocess.PIPE, text=True
    )
    try:
        if proxy.stdout is None:
            raise RuntimeError("the proxy has no output")
        yield int(proxy.stdout.readline())
    finally:
        proxy.kill()
        proxy.communicate()


def measure(line: Line, only: list[str], directory: Path | None) -> Iterator[Row]:
    """A row for each rival on this line: our verified download beside it."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        box = LocalSshd(Path(name) / "box")
        box.start()
        try:
            remote = write_model(box.home / "model", line.mib)
            out = Path(name) / "out"
            out.mkdir()
            with way(box, line.rtt_ms, line.rate_mb) as port:
                bench = Bench(box, port, remote, out)
                wanted = {
                    rival: rounds.timed(copy, bench.arrived)
                    for rival, copy in bench.variants().items()
                    if rival == OURS or not only or any(part in rival for part in only)
                    if not (line.far and "at both ends" in rival)
                }
                there = {rival: copy for rival, copy in wanted.items() if not missing(rival)}
                seconds = {rival: median(taken) for rival, taken in rounds.in_turns(there, line.rounds).items()}
        finally:
            box.stop()
    bars = dict(line.bars)
    for rival in [rival for rival in wanted if rival not in {OURS, ASKED}]:
        what = f"verified download, {line}"
        yield Row(what, rival, seconds[OURS], seconds.get(rival), bars.get(rival), why=missing(rival))
    if {ASKED, "scp"} <= seconds.keys():
        yield Row(f"hash, then verified download, {line}", "scp", seconds[ASKED], seconds["scp"])


def missing(variant: str) -> str:
    """Programs that a variant is named for and that are not installed here, as a reason; empty when there are none."""
    absent = [tool for tool in TOOLS if tool in variant and not shutil.which(tool)]
    return f"{' and '.join(absent)} not installed" if absent else ""


def write_model(path: Path, mib: int) -> RemoteFile:
    """A file of blocks that differ, and its digest."""
    data = random.Random(1).randbytes(1 << 20)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for index in range(mib):
            block = index.to_bytes(8, "little") + data[8:]
            digest.update(block)
            file.write(block)
    return RemoteFile("model", mib << 20, Sha256(digest.hexdigest()))


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Every rival on the line that was described, or on each of those that have bars."""
    if SSHD is None:
        table.unable("sshd is not installed")
    lines: tuple[Line, ...] = QUICK if options.quick else FULL
    if options.mib or options.rounds or options.rtt_ms or options.rate_mb:
        lines = (Line(options.mib or 480, options.rounds or 3, options.rtt_ms, options.rate_mb),)
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
    for line in lines:
        yield from measure(line, options.only, options.directory)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    yield Row("peak memory, with every download in it", "limit", peak / 1e6, MEMORY_MB, 1.0, unit="MB")


if __name__ == "__main__":
    parser = table.parser(__doc__)
    parser.add_argument("--mib", type=int, help="measure one line, with a file of this size (default 480)")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--rate-mb", type=float, default=0.0)
    parser.add_argument("--only", action="append", default=[], help="rivals whose name holds this text")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    table.run(parser.parse_args(), rows)
