"""Looks at other tools that end rented machines: SkyPilot, RunPod, Terraform and the clouds' own programs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.shellguard import rules
from harness.shellguard.reading import ProgramCall, names, program
from harness.shellguard.seen import Place, Seen, Violation, said

_TOOLS: tuple[tuple[str, str, str], ...] = (
    # programs, what must be named with the verb, verbs; each a pattern of one whole word
    ("sky", ".*", "down|stop|--down|terminate"),
    ("runpodctl brev dstack vagrant prime jl modal paperspace", ".*",
     "remove|delete|destroy|terminate|stop|halt|pause|reset"),
    ("terraform tofu terragrunt cdktf pulumi", ".*", "destroy|--?destroy|down"),
    ("aws", "ec2|lightsail|sagemaker", "(terminate|stop|delete)-.*"),
    ("gcloud", "compute|tpus|tpu-vm", "delete|stop|suspend|reset"),
    ("az", "vm|vmss|ml|container", "delete|deallocate|stop"),
    ("doctl hcloud openstack oci ibmcloud fly flyctl linode-cli", "droplet|server|instance|machines?|linodes",
     "delete|destroy|terminate|stop|poweroff|shutdown"),
)  # fmt: skip

_ROWS = {name: (re.compile(what), re.compile(verbs)) for tools, what, verbs in _TOOLS for name in names(tools)}
TOOLS = frozenset(_ROWS)
"""Programs that rent and end machines."""

PYTHON = re.compile(r"\bsky\.(down|stop|terminate)\b|\brunpod\.(terminate|stop)_pod\b")
"""The same acts by the tools' Python packages."""

_ONLY_TELLS = frozenset({"-h", "--help", "help", "plan", "--dry-run", "--dryrun", "preview"})


def look(call: ProgramCall, _place: Place) -> Iterator[Seen]:
    """One of the tools, given a verb that ends or stops a machine."""
    what, verbs = _ROWS[program(call.words[0])]
    words = call.words[1:]
    if _ONLY_TELLS & set(words):
        return
    if any(map(what.fullmatch, words)) and any(map(verbs.fullmatch, words)):
        yield Violation(rules.OTHER_MACHINE, said(call))
