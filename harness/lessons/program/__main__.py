"""Runs the experiments that are named, or all: ``python3 -m program [NAME ...]``. Linux, macOS.

Prints one JSON object a line: what is installed, then how each experiment ended (``worked``, ``raised``,
``differs``: it silently did something else, ``unable``: it could not be tried) and in which words. Libraries
are imported once, and each experiment is a fork in a process group and a folder of its own, with a time
limit; both are gone before the next one begins.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .experiments import Experiment

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed")
_OF_LAUNCHERS = ("ACCELERATE_", "FSDP_", "DEEPSPEED_", "TORCHELASTIC_", "MASTER_", "LOCAL_", "GROUP_", "ROLE_")
_GRACE_S = 5.0
"""Seconds for which the other ranks are waited for when one has failed: they may hang in a collective."""


def _die_with_parent() -> None:
    """On Linux, whatever kills the one that started a process kills the process: prctl(2), PR_SET_PDEATHSIG."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _rank(name: str, run: Callable[[], str], rank: str) -> None:
    """Run an experiment in this process, and leave its outcome in ``rank-N.json``."""
    try:
        said = run()
        told = {"ended": "differs" if said else "worked", "said": said}
    except BaseException as error:  # noqa: BLE001 - whatever ends it is the result
        told = {"ended": "raised", "said": f"{type(error).__name__}: {error}"[:2000]}
    Path(f"rank-{rank}.json").write_text(json.dumps({"lesson": name, "at": time.monotonic(), **told}))


def _fork(name: str, one: Experiment, rank: int, group: int, settings: dict[str, str]) -> int:
    """A process of an experiment, in its group (0: a new one); returns its id."""
    if pid := os.fork():
        with contextlib.suppress(OSError):
            os.setpgid(pid, group or pid)
        return pid
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, group)
        _die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = os.open(f"log-{rank}.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(settings, RANK=str(rank), LOCAL_RANK=str(rank))
        if one.ranks == 1:
            del os.environ["RANK"], os.environ["LOCAL_RANK"]
        _rank(name, one.run, str(rank))
    finally:
        os._exit(0)


def _wait(pids: list[int], limit_s: float) -> bool:
    """Wait for all of them, or for one that failed and a moment more; False when the time was over."""
    ends, waiting = time.monotonic() + limit_s, set(pids)
    failed = False
    while waiting:
        waiting -= {pid for pid in waiting if os.waitpid(pid, os.WNOHANG)[0]}
        if not failed and any('"raised"' in path.read_text() for path in Path().glob("rank-*.json")):
            failed, ends = True, min(ends, time.monotonic() + _GRACE_S)
        if time.monotonic() > ends:
            return failed
        time.sleep(0.02)
    return True


def _try(name: str, one: Experiment, gpus: int, port: int) -> dict[str, Any]:
    """One experiment from its folder to its outcome; leaves neither a process nor a file."""
    lesson: dict[str, Any] = {"lesson": name, "ended": "unable"}
    if importlib.util.find_spec(one.needs) is None:
        return {**lesson, "said": f"{one.needs} is not installed"}
    if gpus < one.gpus:
        return {**lesson, "said": f"it takes {one.gpus} GPUs, and there are {gpus}"}
    before, folder = Path.cwd(), Path(tempfile.mkdtemp(prefix="harness-lesson-"))
    settings = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(one.ranks)}
    places = ("TMPDIR", "HF_HOME", "TORCH_EXTENSIONS_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
    settings = {**(settings if one.ranks > 1 else {}), **dict.fromkeys(places, str(folder))}
    pids: list[int] = []
    try:
        os.chdir(folder)
        for rank in range(one.ranks):
            pids.append(_fork(name, one, rank, pids[0] if pids else 0, settings))
        in_time = _wait(pids, one.limit_s)
        told = [json.loads(path.read_text()) for path in folder.glob("rank-*.json")]
        logs = "".join(path.read_text(errors="replace")[-300:] for path in sorted(folder.glob("log-*.txt")))
    finally:
        _end(pids)
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)
    order = {"raised": 0, "differs": 1, "worked": 2}
    worst = min(told, key=lambda one: (order[one["ended"]], float(one["at"])), default={"ended": ""})
    if worst["ended"] != "raised":
        if not in_time:
            return {**lesson, "said": f"it had not ended after {one.limit_s:.0f} s"}
        if len(told) < one.ranks:
            return {**lesson, "said": f"a process of it died without a word: {logs.strip()[-300:]}"}
    return {**{key: value for key, value in worst.items() if key != "at"}, "lesson": name}


def _end(pids: list[int]) -> None:
    """Kill an experiment's group, and collect its processes."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.killpg(pids[0], signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.waitpid(pid, 0)


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", sys.version.split()[0]
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


def main(arguments: list[str]) -> None:
    """Try the experiments that are named, or all."""
    if arguments[:1] == ["--rank"]:
        from .experiments import EXPERIMENTS  # noqa: PLC0415 - see below

        _die_with_parent()
        _rank(arguments[1], EXPERIMENTS[arguments[1]].run, os.environ["RANK"])
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as every end: the folder goes, and the processes
    for name in [*os.environ]:
        if name.startswith(_OF_LAUNCHERS) or name in {"RANK", "WORLD_SIZE"}:
            del os.environ[name]
    # A look at the GPUs that starts CUDA would keep the forks from it; deterministic threads keep ranks comparable.
    os.environ.update(PYTORCH_NVML_BASED_CUDA_CHECK="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
    os.environ.update(HF_HUB_OFFLINE="1", PYTHONDONTWRITEBYTECODE="1")
    from . import experiments, material  # noqa: PLC0415 - after the environment that the libraries read

    print(json.dumps({"versions": dict(_versions()), "gpus": material.gpus()}), flush=True)
    for name in arguments or experiments.EXPERIMENTS:
        print(json.dumps(_try(name, experiments.EXPERIMENTS[name], material.gpus(), material.free_port())), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
