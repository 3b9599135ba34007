"""An emulated nvidia-smi: it answers for the GPUs that were rented, and says that it is emulated.

While Python programs run in the box it shows their memory and their work as if the GPUs shared both: what they hold
and how busy they are is measured (proc(5): Linux only), where it lies is not. It runs on the box, alone: standard
library only. The first block is replaced when a box is furnished.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

GPU_NAME = "NVIDIA H100 SXM"
NUM_GPUS = 1
MEMORY_MIB = 81_559
DRIVER = "570.124.06"
# END OF FACTS

CUDA = "12.8"
IDLE_MIB = 5
MARK = "HARNESS_EMULATED_BOX"
SAMPLE_S = 0.2
"""How long the work of a program is looked at."""

PROC = Path("/proc")


def programs() -> Iterator[Path]:
    """Processes of this box that run a Python program from a file or as a module, as a training does."""
    mark = f"{MARK}={os.environ.get(MARK, '')}".encode()
    for place in PROC.glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if runs_a_program(words) and mark in (place / "environ").read_bytes().split(b"\0"):
                yield place
        except OSError:  # ended meanwhile, or not ours to look at
            continue


def runs_a_program(words: list[str]) -> bool:
    """True for ``python train.py`` and ``python -m package``; not for lines of code, pip and this tool."""
    if not Path(words[0]).name.startswith("python"):
        return False
    for at, word in enumerate(words[1:], 2):
        if word == "-m":
            return words[at] != "pip"
        if word in {"-", "-c", ""}:
            return False
        if not word.startswith("-"):
            return Path(word).name not in {"nvidia-smi", "pip", "pip3"}
    return False


def seconds(place: Path) -> float:
    """CPU time of a process so far."""
    try:
        fields = (place / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(place: Path) -> int:
    """Memory of a process."""
    try:
        return int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    except OSError:
        return 0


@cache
def load() -> tuple[int, int]:
    """MiB that each GPU shows as used, and its utilisation in percent."""
    seen = list(programs())
    if not seen:
        return IDLE_MIB, 0
    before = [seconds(place) for place in seen]
    time.sleep(SAMPLE_S)
    spent = (seconds(place) - start for place, start in zip(seen, before, strict=True))
    busy = sum(one for one in spent if not math.isnan(one)) / SAMPLE_S
    used = min(MEMORY_MIB, IDLE_MIB + sum(map(resident_mib, seen)) // NUM_GPUS)
    return used, min(100, math.ceil(100 * busy))


def value(field: str, index: int) -> tuple[str, str]:
    """One field of one GPU and its unit."""
    used, busy = load()
    bus = f"00000000:{index + 1:02X}:00.0"
    table = {
        "index": (str(index), ""),
        "count": (str(NUM_GPUS), ""),
        "name": (GPU_NAME, ""),
        "gpu_name": (GPU_NAME, ""),
        "uuid": (f"GPU-e0000000-0000-4000-8000-{index:012d}", ""),
        "gpu_uuid": (f"GPU-e0000000-0000-4000-8000-{index:012d}", ""),
        "driver_version": (DRIVER, ""),
        "pci.bus_id": (bus, ""),
        "memory.total": (str(MEMORY_MIB), " MiB"),
        "memory.used": (str(used), " MiB"),
        "memory.free": (str(MEMORY_MIB - used), " MiB"),
        "utilization.gpu": (str(busy), " %"),
        "utilization.memory": (str(100 * used // MEMORY_MIB), " %"),
        "temperature.gpu": ("31", ""),
        "power.draw": ("70.00", " W"),
        "power.limit": ("700.00", " W"),
        "compute_cap": ("9.0", ""),
        "pstate": ("P0", ""),
    }
    return table.get(field, ("[N/A]", ""))


def query(fields: list[str], layout: list[str]) -> str:
    """The answer to --query-gpu in the csv forms."""
    unknown = [field for field in fields if value(field, 0)[0] == "[N/A]"]
    if unknown:
        return f'Field "{unknown[0]}" is not a valid field to query.\n'
    lines = []
    if "noheader" not in layout:
        units = {" MiB": " [MiB]", " %": " [%]", " W": " [W]"}
        lines.append(", ".join(field + units.get(value(field, 0)[1], "") for field in fields))
    for index in range(NUM_GPUS):
        cells = (value(field, index) for field in fields)
        lines.append(", ".join(text if "nounits" in layout else text + unit for text, unit in cells))
    return "\n".join(lines) + "\n"


def table() -> str:
    """The plain table."""
    now = time.strftime("%a %b %d %H:%M:%S %Y")
    rule = "+" + "-" * 77 + "+\n"
    text = f"{now}   (emulated: no GPU is behind this)\n{rule}"
    text += f"| NVIDIA-SMI {DRIVER} (emulated)   Driver Version: {DRIVER}   CUDA Version: {CUDA} |\n{rule}"
    used, busy = load()
    for index in range(NUM_GPUS):
        row = f"{index:>4}  {GPU_NAME:<28} {used:>6}MiB / {MEMORY_MIB}MiB    {busy:>3}%      Default"
        text += f"| {row:<75} |\n"
    return text + rule


def main(arguments: list[str]) -> int:
    """Answer once, or every so many seconds with -l."""
    parser = argparse.ArgumentParser(prog="nvidia-smi", description="emulated: no GPU is behind this")
    parser.add_argument("--query-gpu", default="")
    parser.add_argument("--format", default="")
    parser.add_argument("-l", "--loop", type=float, nargs="?", const=5.0, default=0.0)
    parser.add_argument("-L", "--list-gpus", action="store_true")
    asked = parser.parse_args(arguments)
    fields, layout = ([word.strip() for word in text.split(",")] for text in (asked.query_gpu, asked.format))
    if asked.list_gpus:
        for index in range(NUM_GPUS):
            sys.stdout.write(f"GPU {index}: {GPU_NAME} (UUID: {value('uuid', index)[0]})\n")
        return 0
    if asked.query_gpu and "csv" not in layout:
        sys.stdout.write('"--format=" switch is missing. It is required when querying.\n')
        return 6
    while True:
        load.cache_clear()
        sys.stdout.write(query(fields, layout) if asked.query_gpu else table())
        sys.stdout.flush()
        if not asked.loop:
            return 0
        time.sleep(asked.loop)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
