"""The names that a check of your own may rely on.

They keep their names, their fields and the meaning of both within a minor version (0.1.x); a field may be added at any
time. What goes or changes is named in CHANGELOG.md under "Changed" or "Removed" one minor version ahead. Everything
else in ``harness`` may change with any release.

``evidence`` is an `Evidence`; ``job`` is a `Job`; the fixture named for a stage is that stage's facts class, whose
fields are `Observed` wherever they had to be looked at. Raise `CouldNotLook` for what could not be seen: UNKNOWN.
"""

from enum import StrEnum as _StrEnum

from harness.core.observed import CouldNotLook, Observed
from harness.core.verdict import Verdict
from harness.facts.install import InstallFacts
from harness.facts.launch import LaunchFacts
from harness.facts.postdownload import PostdownloadFacts
from harness.facts.posttrain import PosttrainFacts
from harness.facts.preflight import PreflightFacts
from harness.facts.provision import ProvisionFacts
from harness.facts.teardown import TeardownFacts
from harness.facts.training import TrainingFacts
from harness.facts.upload import UploadFacts
from harness.job.model import Job
from harness.plugin.looking import Evidence


class Trainer(_StrEnum):
    """Names of the trainers that the first user's profile runs; a log's ``of`` takes any trainer's name."""

    SFT = "sft"
    DPO = "dpo"


__all__ = [
    "CouldNotLook",
    "Evidence",
    "InstallFacts",
    "Job",
    "LaunchFacts",
    "Observed",
    "PostdownloadFacts",
    "PosttrainFacts",
    "PreflightFacts",
    "ProvisionFacts",
    "TeardownFacts",
    "Trainer",
    "TrainingFacts",
    "UploadFacts",
    "Verdict",
]
