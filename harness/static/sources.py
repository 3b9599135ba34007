"""The staged package's text files, each read once: Python as syntax scripts, the rest as lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from harness.core.observed import CouldNotLook
from harness.static import script

MAX_TEXT_BYTES = 2 << 20
"""A script or configuration larger than this is no text that a person wrote."""

SHELL = frozenset({".sh", ".bash", ".zsh", ".ps1", ".bat", ".cmd"})
CONFIGURATION = frozenset({".yaml", ".yml", ".json", ".toml", ".cfg", ".ini"})
_NAMES = frozenset({"Makefile", "Dockerfile", "Procfile", "justfile"})


@dataclass(frozen=True, slots=True)
class Sources:
    """Files of the package; paths are relative and POSIX. ``unread`` says which texts could not be read."""

    files: frozenset[str]
    scripts: Mapping[str, script.PythonScript] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def whole(self) -> Sources:
        """These sources; raises CouldNotLook when some text of the package could not be read."""
        if self.unread:
            raise CouldNotLook("; ".join(self.unread[:5]))
        return self

    def reachable(self, entry: str) -> Mapping[str, script.PythonScript]:
        """The entry script and every module of the package that it imports, directly or not."""
        if entry not in self.files:
            raise CouldNotLook(f"{entry} is not in the package")
        found: dict[str, script.PythonScript] = {}
        pending = [entry]
        entry_folder = PurePosixPath(entry).parent.as_posix().replace(".", "")
        while pending:
            path = pending.pop()
            if path in found or path not in self.files:
                continue
            if path not in self.scripts:
                raise CouldNotLook(next((text for text in self.broken if text.startswith(path)), f"{path} is unread"))
            found[path] = self.scripts[path]
            folder = ".".join(PurePosixPath(path).parent.parts)
            for name in script.imported(self.scripts[path], folder):
                pending += _module_files("", name) + _module_files(entry_folder, name)
        return found


def read(root: Path, files: Iterable[str]) -> Sources:
    """Read every text of the package; what cannot be read or compiled is named, not left out."""
    names = frozenset(files)
    scripts: dict[str, script.PythonScript] = {}
    texts: dict[str, str] = {}
    broken: list[str] = []
    unread: list[str] = []
    for name in sorted(names):
        if not _is_text(name):
            continue
        try:
            text = _text(root / name, name)
        except (CouldNotLook, OSError) as error:
            (broken if name.endswith(".py") else unread).append(str(error))
            continue
        if not name.endswith(".py"):
            texts[name] = text
            continue
        try:
            scripts[name] = script.parse(text, name)
        except CouldNotLook as error:
            broken.append(str(error))
    return Sources(names, scripts, texts, tuple(broken), tuple(unread))


def _is_text(name: str) -> bool:
    path = PurePosixPath(name)
    top = path.parts[0]
    if path.suffix == ".py":
        return True
    if top in {"data", "models"}:  # rows and weights: their own checks read them
        return False
    return path.suffix in SHELL | CONFIGURATION or path.name in _NAMES or is_requirements(name)


def is_requirements(name: str) -> bool:
    """True when a file lists packages for pip."""
    path = PurePosixPath(name)
    return path.suffix == ".txt" and ("requirements" in path.name or "constraints" in path.name)


def _text(path: Path, name: str) -> str:
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise CouldNotLook(f"{name}: {size} bytes are too many for a text")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CouldNotLook(f"{name}: not UTF-8 at byte {error.start}") from None


def _module_files(folder: str, dotted: str) -> tuple[str, ...]:
    parts = [*folder.split("/"), *dotted.split(".")]
    parts = [part for part in parts if part]
    if not parts:
        return ()
    packages = ["/".join([*parts[:count], "__init__.py"]) for count in range(1, len(parts) + 1)]
    return ("/".join(parts) + ".py", *packages)
