"""An emulated nvidia-smi: it answers for the GPUs that were rented, and says that it is emulated.

It runs on the box, alone: standard library only. The first block is replaced when
a box is furnished.
"""

from __future__ import annotations

import argparse
import sys
import time

GPU_NAME = "NVIDIA H100 SXM"
NUM_GPUS = 1
MEMORY_MIB = 81_559
DRIVER = "570.124.06"
# END OF FACTS

CUDA = "12.8"
USED_MIB = 5


def value(field: str, index: int) -> tuple[str, str]:
    """One field of one GPU and its unit."""
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
        "memory.used": (str(USED_MIB), " MiB"),
        "memory.free": (str(MEMORY_MIB - USED_MIB), " MiB"),
        "utilization.gpu": ("0", " %"),
        "utilization.memory": ("0", " %"),
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
    for index in range(NUM_GPUS):
        row = f"{index:>4}  {GPU_NAME:<28} {USED_MIB:>6}MiB / {MEMORY_MIB}MiB      0%      Default"
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
