"""Ways of running that lost money before, refused before anything is loaded. The environment is an argument.

``device_map="auto"`` splits one process's model over the devices; a launcher starts several
processes, and LoRA under those failed with "element 0 of tensors does not require grad".
"""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path

from .errors import Refused

_REMEDY = "run it as: python3 train_deepseek_forex.py --stage all"

_LAUNCHERS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_MIXED_PRECISION": "accelerate launch",
    "FSDP_AUTO_WRAP_POLICY": "FSDP",
    "DEEPSPEED_CONFIG_FILE": "DeepSpeed",
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": "DeepSpeed",
    "TORCHELASTIC_RUN_ID": "torchrun",
}
"""Variables that launchers set, and which launcher it is (accelerate 1.15, torch 2.13)."""

_LESSONS = {
    "DeepSpeed": "deepspeed-zero-trl",
    "FSDP": "fsdp-through-trainer",
    "accelerate launch": "accelerate-launch-lora",
}
"""The lesson by which a launcher is refused, by its name in lessons.json; the others are refused as DDP is."""

_ALWAYS_SET = {"ACCELERATE_DYNAMO_BACKEND": "accelerate launch"}
"""Variables that tell of a launcher whatever they say: accelerate sets this one to NO for one process, too."""

_SIZES = (
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "HOROVOD_SIZE",
)
"""Variables in which launchers (torch's, Open MPI's, MPICH's, MVAPICH's, Horovod's) count their processes."""

_OF_TORCHRUN = {"WORLD_SIZE", "LOCAL_WORLD_SIZE"}

_OLDEST_TORCH = (2, 6)
"""transformers 5.23, utils/import_utils.py."""

_OFF = {"", "0", "false", "no"}


def refuse_launchers(environment: Mapping[str, str], *, proven: int = 0) -> None:
    """Raise Refused when a launcher started this process, or several processes share the job.

    Torchrun is let through when it started as many processes as are ``proven``.
    """
    for name, launcher in (_LAUNCHERS | _ALWAYS_SET).items():
        said = environment.get(name, "").strip().lower()
        if proven and launcher == "torchrun":
            continue
        if said not in _OFF or (said and name in _ALWAYS_SET):
            told = _lesson(_LESSONS.get(launcher, "torchrun-ddp-lora"))
            raise Refused(
                f"started by {launcher} ({name} is set); {told}; one process with device_map=auto is used: {_REMEDY}"
            )
    for name in _SIZES:
        size = environment.get(name, "1").strip()
        if size not in {"", "1"} and not (name in _OF_TORCHRUN and size == str(proven)):
            told = _lesson("torchrun-ddp-lora")
            raise Refused(
                f"{name}={size[:20]}: several processes; {told}; device_map=auto needs exactly one: {_REMEDY}"
            )


def _lesson(name: str) -> str:
    """A lesson with the newest verdict on it, of the file that travels with the package."""
    try:
        told = json.loads((Path(__file__).parents[1] / "lessons.json").read_text(encoding="utf-8"))
        verdict = told["verdicts"][name]
        seen = f": {verdict['seen']}" if verdict["seen"] else ""
        torch = next(one for one in told["versions"] if one.startswith("torch "))
        return f"lesson {name}, {verdict['standing']} on {told['day']} with {torch}{seen}"
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return f"lesson {name}"


def refuse_torch(version: str | None) -> None:
    """Raise Refused for a torch that transformers 5 switches off in silence (below 2.6), or for none."""
    if version is None:
        raise Refused("torch is not installed; use an image that brings it, or pip install torch")
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) < _OLDEST_TORCH:
        raise Refused(f"torch {version} is too old for transformers 5; use an image with torch 2.6 or newer")


def refuse_unmapped_loader(source: str, gpus: int) -> None:
    """Raise Refused when the loader's source gives no device map, or None, although several GPUs are visible."""
    tree = ast.parse(textwrap.dedent(source))
    given = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "device_map"]
    if not given or any(isinstance(value, ast.Constant) and value.value is None for value in given):
        refuse_unmapped(None, gpus)


def refuse_unmapped(device_map: object, gpus: int) -> None:
    """Raise Refused when a model was loaded without a device map although several GPUs are visible."""
    if device_map is None and gpus > 1:
        raise Refused(
            f'device_map=None with {gpus} GPUs: the model sits on one of them; load it with device_map="auto"'
        )
