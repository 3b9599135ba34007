"""How fast a verified download is beside what people use: one run, side by side, ratios to plain scp.

    python -m benchmarks.bench_transport --mib 480 --rounds 3
    python -m benchmarks.bench_transport --mib 480 --rounds 1 --rtt-ms 100 --rate-mb 10

A real sshd on the loopback; with a round trip or a rate, the proxy of this folder stands between.
Every round runs every variant once, in random order; the table shows medians, and the best, which a
busy machine disturbs least. Rivals that are not
installed are left out. "verified" rows do what a careful person does by hand: copy, then hash both
ends. Our row is told the digest beforehand, as the harness records it when the training ends;
"hash + harness" has the box compute it first.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.local_sshd import LocalSshd
from harness.core.clock import SystemClock
from harness.core.ids import Sha256
from harness.core.ports import RemoteFile
from harness.core.questions import DigestOf
from harness.remote.host import SshHost

GCM = "aes128-gcm@openssh.com"


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

    def variants(self, *, all_rivals: bool) -> dict[str, Callable[[], None]]:
        """Name -> one copy."""
        found: dict[str, Callable[[], None]] = {
            "scp": self.scp,
            "scp gcm": lambda: self.scp(cipher=GCM),
            "scp, sha256sum at both ends": lambda: self.verified_scp("sha256sum"),
            "scp, openssl dgst at both ends": lambda: self.verified_scp("openssl dgst -sha256"),
            "scp gcm, sha256sum at both ends": lambda: self.verified_scp("sha256sum", GCM),
            "scp gcm, openssl dgst at both ends": lambda: self.verified_scp("openssl dgst -sha256", GCM),
            "rsync": self.rsync,
            "lftp pget -n 8": self.lftp,
            "rclone, 8 streams": self.rclone,
            "harness, verified": self.harness,
            "hash + harness, verified": lambda: self.harness(ask_first=True),
        }
        needed = {"rsync": "rsync", "lftp pget -n 8": "lftp", "rclone, 8 streams": "rclone"}
        found = {name: copy for name, copy in found.items() if shutil.which(needed.get(name, "scp"))}
        return found if all_rivals else {name: copy for name, copy in found.items() if "at both ends" not in name}


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


def measure(bench: Bench, names: list[str], rounds: int, *, wan: bool) -> dict[str, list[float]]:
    """Seconds of every variant, round by round."""
    variants = {
        name: copy
        for name, copy in bench.variants(all_rivals=not wan).items()
        if not names or any(part in name for part in names)
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name in random.sample(list(variants), len(variants)):
            started = time.perf_counter()
            variants[name]()
            seconds[name].append(time.perf_counter() - started)
            if (bench.out / "m").stat().st_size != bench.remote.size:
                raise RuntimeError(f"{name} left a file of another size")
            (bench.out / "m").unlink()
    return seconds


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--rate-mb", type=float, default=0.0)
    parser.add_argument("--only", action="append", default=[], help="variants whose name holds this text")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        box = LocalSshd(Path(name) / "box")
        box.start()
        try:
            data = random.Random(1).randbytes(1 << 20)
            digest = hashlib.sha256()
            with (box.home / "model").open("wb") as file:
                for index in range(options.mib):
                    block = index.to_bytes(8, "little") + data[8:]
                    digest.update(block)
                    file.write(block)
            remote = RemoteFile("model", options.mib << 20, Sha256(digest.hexdigest()))
            out = Path(name) / "out"
            out.mkdir()
            with way(box, options.rtt_ms, options.rate_mb) as port:
                wan = bool(options.rtt_ms or options.rate_mb)
                seconds = measure(Bench(box, port, remote, out), options.only, options.rounds, wan=wan)
        finally:
            box.stop()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    best = {name: min(times) for name, times in seconds.items()}
    base = "scp" if "scp" in medians else min(medians, key=medians.__getitem__)
    print(f"{options.mib} MiB, round trip {options.rtt_ms:g} ms, cap {options.rate_mb:g} MB/s, {options.rounds} rounds")
    print(f"{'':42} {'median':>8} {'MB/s':>7} {'of scp':>7} {'best':>8} {'of scp':>7}   load {os.getloadavg()[0]:.1f}")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        rate = options.mib * 1.048576 / median
        ratios = medians[base] / median, best[base] / best[name]
        print(f"{name:42} {median:8.2f} {rate:7.0f} {ratios[0]:7.2f} {best[name]:8.2f} {ratios[1]:7.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"this process, with every download of the harness in it, needed {peak / 1e6:.0f} MB of memory at most")
    if options.json:
        options.json.write_text(json.dumps({"options": vars(options), "seconds": seconds}, default=str, indent=1))


if __name__ == "__main__":
    main()
