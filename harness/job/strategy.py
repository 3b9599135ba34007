"""Strategies: how a job's training is started, what that needs of its package, and what a proof of it must say. Pure.

``seeds`` is the operating rules' way, one process with device_map="auto". Every other one is stated in the job file,
and used only where the package's own command has just proven it on the box.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from harness.core.contract import section
from harness.core.text import printable
from harness.job import layouts
from harness.job.model import Job

SEEDS: Final = "seeds"
STATED: Final = "TRAINING_STRATEGY"
"""Variable in which the training is told the strategy; it refuses to be several processes without it."""

PROOF: Final = "models/proof.json"
"""What the proving command leaves, relative to the package's directory."""

LAUNCHER: Final = "torch.distributed.run"
_PYTHON: Final = re.compile(r"(.*/)?python[\d.]*")


def ranks(job: Job, strategy: str) -> int:
    """Processes that train."""
    return job.machine.gpus if strategy == "ddp" else 1


def least_devices(job: Job, strategy: str) -> int:
    """Devices that must hold weights."""
    by_rank = job.training.accelerator == "cuda" and strategy != SEEDS
    return ranks(job, strategy) if by_rank else job.least_devices if strategy == SEEDS else 1


def started(job: Job, strategy: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Command of a training under a strategy, and the variables that it gets beside its own."""
    command = job.training.command
    if strategy == SEEDS:
        return command, {}
    if strategy == "single":
        return command, {STATED: strategy, "CUDA_VISIBLE_DEVICES": "0"}
    launched = ("-m", LAUNCHER, "--standalone", "--nproc-per-node", str(ranks(job, strategy)))
    return (command[0], *launched, *command[1:]), {STATED: strategy}


def proving(job: Job, limit_s: float, of: str) -> tuple[str, ...]:
    """The package's command that proves the job's strategy; ``of`` names what is proven, and its answer repeats it."""
    strategy = job.training.strategy
    told = {"strategy": strategy, "ranks": ranks(job, strategy), "limit": f"{limit_s:.0f}", "of": of, "out": PROOF}
    return (*job.package.prove, *(word for name, value in told.items() for word in (f"--{name}", str(value))))


def prover(command: Sequence[str]) -> str | None:
    """File of the package that a proving command runs; None for a command that names none."""
    for flag, word in pairwise(command):
        if flag == "-m":
            return f"{word.replace('.', '/')}.py"
        if word.endswith(".py"):
            return word
    return None


def refusal(job: Job) -> str | None:
    """Reason why this job cannot have the strategy that it states; None when it may be tried."""
    strategy, command, gpus = job.training.strategy, job.training.command, job.machine.gpus
    uneven = [f"{rows} of {name}" for name in job.trainers if (rows := job.training.rows_a_step(name)) % gpus]
    is_script = bool(_PYTHON.fullmatch(command[0]) and command[1:2] and command[1].endswith(".py"))
    several = strategy == "ddp"
    unproven = f"it has to be proven on the box, and package.prove names no command for that {section('A strategy')}"
    reasons = (
        (not job.package.prove, unproven),
        (several and gpus < 2, f"it shares the rows among several GPUs, and machine.gpus = {gpus}"),
        (several and uneven, f"{gpus} processes cannot share the rows of a step evenly: {', '.join(uneven)}"),
        (several and not is_script, "training.command is to be python3 and a script, which each process can run"),
    )
    found = next((reason for holds, reason in reasons if holds), None)
    return f"training.strategy = {strategy!r}: {found}" if found and strategy != SEEDS else None


def shortfall(proof: Any, job: Job, of: str) -> str:
    """Why a proof does not admit the job's strategy, by name; empty when it does.

    A proof of another package, base, strategy or machine counts as none.
    """
    strategy = job.training.strategy
    if not isinstance(proof, Mapping):
        return "no_proof: the package's command left none that can be read"
    wanted = {"of": of, "strategy": strategy, "ranks": ranks(job, strategy)}
    other = [name for name, value in wanted.items() if proof.get(name) != value]
    if other:
        return f"proof_of_something_else: it differs in {', '.join(other)}"
    problems = proof.get("problems")
    if proof.get("proven") is not True or problems:
        named = problems.items() if isinstance(problems, Mapping) else ()
        said = "; ".join(f"{printable(str(name), 60)}: {printable(str(why), 200)}" for name, why in named)
        return said or "not_proven: the package's command does not say why"
    if not (isinstance(proof.get("versions"), Mapping) and proof["versions"]):
        return "versions_untold: it does not say with which libraries"
    return _short_of_gpus(proof, job, strategy) if job.training.accelerator == "cuda" else ""


def _short_of_gpus(proof: Mapping[str, Any], job: Job, strategy: str) -> str:
    """Why the GPUs of a proof do not admit the strategy: too few, or slower than what the plan reckons with."""
    gpus, speedup, wanted = proof.get("gpus"), proof.get("speedup"), ranks(job, strategy)
    distinct = len(set(map(str, gpus))) if isinstance(gpus, list | tuple) else 0
    if distinct != wanted:
        return f"not_on_the_gpus: it was proven on {distinct} GPUs, not on {wanted}"
    least = layouts.of(job).speed(wanted)
    if wanted > 1 and not (isinstance(speedup, int | float) and least <= speedup < math.inf):
        return f"too_slow: {printable(repr(speedup), 40)} times one process, at least {least:.1f} is asked"
    return ""


def planned(job: Job) -> str:
    """Line of a plan about the strategy that its job states; empty for the operating rules' way."""
    strategy = job.training.strategy
    if strategy == SEEDS:
        return ""
    what = "one GPU" if strategy == "single" else f"{ranks(job, strategy)} processes"
    return f"strategy {strategy} ({what}) is tried on the box before the training; not proven, the job trains without"


def told(asked: str, used: str, why: str) -> str:
    """Line that tells the strategy that was asked for, and the one that is used."""
    if asked == used:
        return f"strategy {asked}: {why}" if why else f"strategy {asked}"
    return f"strategy {asked} was asked for; fell back: {why}; launched as the operating rules demand: one process"
