"""Rules of the command guard as data: what is held, why, and what to do instead. Pure.

DENY is for what cannot be taken back, or what the command guard cannot see into. ASK is for what
keeps the data but deserves a person's look: a coding agent's hook asks, the command line warns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Decision(StrEnum):
    """Decision about a command line, from the mildest on; the worst of its parts decides."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing the command guard holds: ``what`` in the imperative, ``why``, and ``instead``, the way that is open."""

    id: str
    decision: Decision
    what: str
    why: str
    instead: str


DESTROY = Rule(
    "destroy-instance",
    Decision.DENY,
    "Never destroy an instance by hand",
    "its disk is deleted with it, and there is no recovery; a model that is not verified at home is lost",
    "harness destroy JOB (or: harness destroy --instance-id ID), which verifies the file at home first",
)
RECYCLE = Rule(
    "recycle-instance",
    Decision.DENY,
    "Never recycle an instance",
    "recycling makes a new container: everything that was trained in the old one is gone",
    "harness run JOB goes on from the newest complete checkpoint; to end the instance: harness destroy JOB",
)
UPDATE = Rule(
    "update-instance",
    Decision.DENY,
    "Never update an instance's image or template",
    "the container is made anew from the template: everything in the old one is gone",
    "finish or abandon the job (harness destroy JOB, harness abandon JOB) and rent with the other template",
)
SCHEDULE = Rule(
    "scheduled-act",
    Decision.DENY,
    "Never put a reboot or a command on the provider's schedule",
    "it will come, again and again, at a time when nobody looks whether the training still runs",
    "do it now, by hand, after harness status JOB",
)
REMOVE = Rule(
    "remove-outputs",
    Decision.DENY,
    "Never remove training outputs on the box",
    "checkpoints and the artifact exist only there until the download is verified",
    "harness run JOB brings them home; the disk goes with harness destroy JOB afterwards",
)
REMOVE_UNKNOWN = Rule(
    "remove-on-box",
    Decision.ASK,
    "Look twice before removing a directory on the box",
    "the command guard cannot see whether outputs are inside",
    "list it first (ls -la), and remove files by name",
)
BID = Rule(
    "change-bid",
    Decision.DENY,
    "Never change an instance's bid by hand",
    "a lower bid lets others stop the training in the middle, a higher one breaks the agreed cost cap",
    "keep the price of the job file; an on-demand instance has no bid",
)
VOLUME = Rule(
    "delete-volume",
    Decision.DENY,
    "Never delete a volume by hand",
    "a volume outlives its instance and may hold the only copy of a checkpoint",
    "harness orphans lists what still bills; delete a volume in the provider's console after looking into it",
)
API_KEY = Rule(
    "lose-api-key",
    Decision.DENY,
    "Never delete or reset an API key, or destroy a team, while an instance may be alive",
    "without the key nobody can download from, stop or destroy what still bills",
    "harness orphans first; then change keys in the provider's console",
)
HIDDEN = Rule(
    "hidden-command",
    Decision.DENY,
    "Never give the provider's command line a command that cannot be seen here",
    "the command guard reads what is on the line; in a prompt, a variable or an alias it sees nothing",
    "write the command out on one line, without variables in the place of the command",
)
LAUNCHER = Rule(
    "forbidden-launcher",
    Decision.DENY,
    "Never start training with accelerate launch, torchrun, DeepSpeed or FSDP",
    "with LoRA they fail with gradient errors, or train something else than was asked",
    'one process with device_map="auto" and BATCH_SIZE = 32: python3 train_deepseek_forex.py --stage all',
)
BACKGROUND = Rule(
    "background-download",
    Decision.DENY,
    "Never download an artifact in the background",
    "a copy that nobody waits for looks finished while it is not, and the next command may destroy its source",
    "harness download, in the foreground: it resumes, verifies and says when the file is whole",
)
COPY = Rule(
    "unverified-copy",
    Decision.ASK,
    "Do not take the provider's copy for a download",
    "vastai copy and cloud copy return 0 when no byte has moved, and compare no checksum",
    "harness download, which compares size and SHA-256 at both ends",
)
DIRECT = Rule(
    "direct-api",
    Decision.DENY,
    "Never call the provider's API by hand to delete or rebuild",
    "a DELETE on an instance, a volume or a key cannot be taken back",
    "harness destroy JOB (or: harness destroy --instance-id ID)",
)
STOP = Rule(
    "stop-instance",
    Decision.ASK,
    "Look twice before stopping an instance",
    "the disk is kept, but the training is cut off, another renter may take the GPUs, and storage still bills",
    "let harness run stop it, or go on if the money matters more: nothing on the disk is lost",
)
OTHER_MACHINE = Rule(
    "end-other-machine",
    Decision.ASK,
    "Look twice before ending a rented machine with another tool",
    "sky down, runpodctl, terraform destroy and their kind take the disk with the machine, and verify nothing first",
    "bring home what is on it, look at the file, and let a person say that the machine may go",
)
REBOOT = Rule(
    "reboot-instance",
    Decision.ASK,
    "Look twice before rebooting an instance",
    "the training is cut off and goes on only if the relaunch hook works; address and host key may change",
    "harness status JOB, to see whether the training still runs",
)
INTERRUPT = Rule(
    "interrupt-training",
    Decision.ASK,
    "Look twice before ending processes on the box",
    "the training may be among them: it is cut off, and the box bills on",
    "harness status JOB, to see whether it still runs; harness run JOB goes on from the newest complete checkpoint",
)
TEMPLATE = Rule(
    "update-template",
    Decision.ASK,
    "Look twice before changing a template",
    "the next instance rented with it gets another image than the one that was tested",
    "make a new template and name it in the job file",
)
PRINTS_KEY = Rule(
    "prints-key",
    Decision.ASK,
    "Do not print the API key",
    "--explain and --curl print the bearer key in full, into the terminal, the log and the agent's memory",
    "leave the option out",
)
LOCK_OUT = Rule(
    "lock-out",
    Decision.ASK,
    "Look twice before taking an SSH key from an instance or the account",
    "a box that nobody can log in to cannot be downloaded from",
    "harness status JOB, to see that nothing is left to download",
)
CREDIT = Rule(
    "move-credit",
    Decision.ASK,
    "Look twice before moving credit away",
    "an account without credit has its instances stopped, and destroyed after some days",
    "harness orphans, to see that nothing is alive that has to be paid",
)
ACCEPT_LOSS = Rule(
    "accept-loss",
    Decision.ASK,
    "Let a person say that a loss is accepted",
    "the sentence deletes what was never brought home, and whoever runs commands for others cannot know its worth",
    "harness run JOB brings it home; without --accept-loss, a person is asked at the terminal",
)
UNLOCK = Rule(
    "take-wall-down",
    Decision.DENY,
    "Never take the wall down for somebody",
    "behind it lies a key that can destroy by any program; whether it may lie about again is a person's word",
    "harness destroy JOB works behind the wall; else let a person type harness guard unlock at a terminal",
)
KEPT_KEY = Rule(
    "kept-key",
    Decision.DENY,
    "Never read, copy or remove the key that the wall keeps",
    "it can destroy, and whoever has seen it needs no harness; without it nobody can take the wall down",
    "harness guard status says what stands, and shows no key; to save a harness's home, copy state.db and jobs/",
)
UNREADABLE = Rule(
    "unreadable",
    Decision.DENY,
    "Never hide a guarded command where it cannot be read",
    "this line names a guarded act, but it cannot be read with certainty, and what cannot be read is held",
    "write the command plainly, one to a line",
)

RULES: tuple[Rule, ...] = (
    DESTROY, RECYCLE, UPDATE, SCHEDULE, REMOVE, VOLUME, API_KEY, BID, DIRECT, UNLOCK, KEPT_KEY, LAUNCHER, BACKGROUND,
    HIDDEN, UNREADABLE,
    STOP, OTHER_MACHINE, REBOOT, INTERRUPT, TEMPLATE, COPY, REMOVE_UNKNOWN, LOCK_OUT, CREDIT, ACCEPT_LOSS, PRINTS_KEY,
)  # fmt: skip
"""All rules, the irreversible first."""
