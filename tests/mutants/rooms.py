"""Modules that are mutated, and for each room the tests that are to notice, the likeliest first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    """Modules by glob, relative to the tree, and the files and folders of their tests."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]

    def found(self, tree: Path) -> list[str]:
        """Paths of its modules, in order."""
        return sorted({path.relative_to(tree).as_posix() for glob in self.modules for path in tree.glob(glob)})

    def files(self, tree: Path, module: str) -> list[str]:
        """Its test files; those that bear the module's name come first."""
        word = Path(module).stem.removeprefix("check_")
        paths = [tree / test for test in self.tests]
        found = [file for path in paths for file in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])]
        found.sort(key=lambda file: word not in file.stem)
        return [file.relative_to(tree).as_posix() for file in found]


def _core(name: str, *tests: str) -> Room:
    return Room((f"harness/core/{name}.py",), ("tests/unit/core", *tests))


def _artifact(name: str, *tests: str) -> Room:
    return Room((f"harness/artifacts/{name}*.py",), (*tests, "tests/unit/artifacts"))


ROOMS = (
    Room(("harness/guard/*.py",), ("tests/unit/guard", "tests/unit/runner/test_runner_replacement.py")),
    Room(
        ("harness/release/*.py",),
        (
            "tests/unit/release",
            "tests/unit/guard/test_guard_proof.py",
            "tests/unit/runner/test_runner_demands.py",
            "tests/unit/runner/test_runner_folders.py",
        ),
    ),
    Room(("harness/gates/*.py",), ("tests/unit/gates", "tests/unit/checks/test_checks_all.py", "tests/plugin")),
    Room(
        ("harness/ledger/*.py",),
        (
            "tests/unit/ledger",
            "tests/contract/test_event_log.py",
            "tests/contract/test_store_contract.py",
            "tests/contract/test_store_lease.py",
            "tests/unit/runner",
        ),
    ),
    Room(
        ("harness/log/*.py",),
        ("tests/unit/log", "tests/field/test_training_logs.py", "tests/field/test_epochs.py", "tests/unit/checks"),
    ),
    Room(("harness/shellguard/*.py",), ("tests/field/test_command_guard.py", "tests/unit/shellguard")),
    Room(("harness/runner/*.py",), ("tests/unit/runner",)),
    Room(
        ("harness/remote/transfer/*.py",),
        (
            "tests/unit/remote/transfer",
            "tests/emulated/test_transfer_upload.py",
            "tests/emulated/test_transfer_faults.py",
        ),
    ),
    Room(
        tuple(
            f"harness/plugin/{name}.py"
            for name in ("facts_source", "gatekeeping", "judging", "selecting", "session", "verdicts")
        ),
        ("tests/plugin", "tests/unit/gates"),
    ),
    Room(("checks/*/check_*.py",), ("tests/unit/checks", "tests/unit/facts/test_preflight_gate.py")),
    Room(
        ("harness/facts/*.py",),
        (
            "tests/unit/facts",
            "tests/unit/checks",
            "tests/field/test_adapters.py",
            "tests/field/test_checkpoints.py",
            "tests/field/test_epochs.py",
            "tests/unit/artifacts/test_artifacts_parts.py",
            "tests/unit/runner/test_runner_checkpoint_mirror.py",
            "tests/unit/runner/test_runner_first_look.py",
        ),
    ),
    _core(
        "answers",
        "tests/unit/core",
        "tests/unit/remote/probe",
        "tests/unit/checks",
        "tests/unit/facts/test_facts_strange.py",
    ),
    _core("durable", "tests/unit/remote/transfer"),
    _core("money"),
    _core("observed", "tests/unit/gates", "tests/unit/checks", "tests/unit/facts"),
    _core("rate"),
    _core("verdict", "tests/unit/gates", "tests/unit/report"),
    _artifact("adapter", "tests/field/test_adapters.py"),
    _artifact("arrival", "tests/unit/runner/test_runner_folders.py"),
    _artifact("checkpoint", "tests/field/test_checkpoints.py"),
    _artifact(
        "gguf", "tests/field/test_gguf.py", "tests/field/test_gguf_split.py", "tests/property/test_gguf_header.py"
    ),
    _artifact("finals", "tests/unit/facts/test_artifact_kinds.py"),
    _artifact("lora", "tests/field/test_adapters.py"),
    _artifact("manifest", "tests/unit/checks/test_checks_upload.py", "tests/unit/job"),
    _artifact("merged", "tests/field/test_model_folder.py", "tests/unit/facts/test_artifact_kinds.py"),
    _artifact("parts", "tests/unit/checks/test_checks_posttrain.py", "tests/unit/runner/test_runner_folders.py"),
    _artifact("safetensors", "tests/field/test_model_folder.py"),
    _artifact("scales", "tests/field/test_gguf_weights.py"),
    _artifact("shards", "tests/field/test_model_folder.py"),
    _artifact("tensors", "tests/field/test_adapters.py", "tests/field/test_model_folder.py"),
)
