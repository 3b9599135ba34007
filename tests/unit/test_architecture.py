"""The shape of the house: which room may import which, who reads clock and environment, and what stays unloaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS = (
    "core",
    "lessons",
    "log",
    "artifacts",
    "static",
    "shellguard",
    "emulator",
    "remote",
    "providers",
    "job",
    "gates",
    "ledger",
    "notify",
    "release",
    "context",
    "facts",
    "report",
    "guard",
    "conformance",
    "by_address",
    "wiring",
    "plugin",
    "api",
    "runner",
    "fleet",
    "cli",
    "__main__",
)
"""The rooms in ``harness/``, one a floor: each may import those above it in this list, and none below."""

CLOSED_TO_OTHERS = {
    "emulator": frozenset({"cli"}),
    "shellguard": frozenset({"cli"}),
    "cli": frozenset({"__main__"}),
}
"""Rooms that are products of their own: who may import them."""

PROVIDERS_OF_THINGS = {"vastai": "harness/providers/vast", "paramiko": "harness/remote", "dbos": "harness/fleet"}
"""The only folder that may import a library which talks to the world."""

VAST_IS_NAMED_IN = {
    "harness/providers": "the adapter, and the embedded service that is asked by it",
    "harness/emulator": "the service that it stands for",
    "harness/shellguard": "judges the command lines of that provider's own program",
    "harness/cli/main.py": "lists these two commands with their lines of help",
    "harness/cli/guard.py": "offers what shellguard judges",
    "harness/cli/emulator.py": "says which service is served",
    "harness/cli/transfer.py": "the first user's directory on the box is the default",
    "harness/job/schema.json": "describes the settings of every built-in kind",
    "harness/job/profiles/forex-r1-v3.toml": "the first user's job is on Vast.ai",
}
"""Files and folders of the engine that may know one provider by name, and why."""

ADAPTERS = frozenset({"providers", "remote", "emulator"})
LOOKS = frozenset({"open", "exec", "eval", "input", "compile", "__import__", "breakpoint"})
CLOCK_AND_CHANCE = frozenset(
    {
        "time.time",
        "time.monotonic",
        "time.perf_counter",
        "time.sleep",
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "os.environ",
        "os.getenv",
        "os.putenv",
        "uuid.uuid4",
        "os.urandom",
    }
)
CHANCE_MODULES = frozenset({"random", "secrets"})
ONE_PLACES = {
    "harness/core/clock.py": "the one place where time enters",
    "harness/core/ids.py": "the one place where randomness enters",
    "harness/core/environment.py": "the one place where the environment is read",
    "harness/remote/box": "programs that run on the box, by its clock",
    "harness/lessons/program": "a program that runs on the box, by its clock, in environments of its own",
    "harness/providers/ssh/on_box.py": "a program that runs on the box, by its clock",
    "harness/emulator": "a world of its own: it has the clock that a rehearsal turns, and keys of its own",
    "harness/plugin/gatekeeping.py": "tells how long the checks took; pytest gives its plugins no clock",
    "harness/plugin/facts_source.py": "dates the facts of a look that pytest was asked for by hand",
}
"""Files and folders that may read clock, chance or environment, and why."""


def _python(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))))


@cache
def _imports(path: Path) -> tuple[tuple[int, str], ...]:
    """Every module that a file imports, at any depth, with its line."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    package = _name(path).removesuffix(".py").split("/")[:-1]
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            if module == "harness":
                yield from ((node.lineno, f"harness.{alias.name}") for alias in node.names)


def _room(path: Path) -> str:
    return path.relative_to(ROOT / "harness").parts[0].removesuffix(".py")


def _rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    for line, module in _imports(path):
        words = module.split(".")
        if words[0] == "harness" and len(words) > 1 and words[1] != "__version__":
            yield line, words[1]


def test_every_room_has_a_floor_of_its_own() -> None:
    rooms = {_room(path) for path in _python("harness")} - {"__init__"}
    assert sorted(rooms) == sorted(FLOORS), rooms ^ set(FLOORS)


def test_no_room_imports_one_below_it() -> None:
    upward = [
        f"{_name(path)}:{line} imports {room}"
        for path in _python("harness")
        if _room(path) != "__init__"
        for line, room in _rooms_imported(path)
        if FLOORS.index(room) > FLOORS.index(_room(path))
    ]
    assert not upward, "\n".join(upward)


@pytest.mark.parametrize("closed", CLOSED_TO_OTHERS)
def test_a_product_of_its_own_is_imported_by_few(closed: str) -> None:
    importers = {
        _room(path) for path in _python("harness") for _, room in _rooms_imported(path) if room == closed != _room(path)
    }
    assert importers <= CLOSED_TO_OTHERS[closed], importers


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Rooms of one level may lean on each other; that must not lead back to where it began."""
    known = {_module(path): path for folder in ("harness", "checks", "training_pkg") for path in _python(folder)}
    edges = {
        name: {imported for _, module in _imports(path) for imported in _targets(module, path, known)} - {name}
        for name, path in known.items()
    }
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for imported in sorted(edges[module]):
                visit(imported, (*above, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def _module(path: Path) -> str:
    return _name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _targets(module: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules that importing one means: itself, or those of a package that are named."""
    if module not in known:
        return
    named = {
        f"{module}.{alias.name}"
        for node in _nodes(path)
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }
    submodules = named & set(known)
    yield from submodules
    if not submodules or len(submodules) < len(named):
        yield module


@pytest.mark.parametrize("library", PROVIDERS_OF_THINGS)
def test_one_room_alone_imports_it(library: str) -> None:
    home = PROVIDERS_OF_THINGS[library]
    importers = {
        _name(path)
        for folder in ("harness", "checks", "training_pkg")
        for path in _python(folder)
        for _, module in _imports(path)
        if module.split(".")[0] == library
    }
    assert importers, f"nobody imports {library}"
    assert all(name.startswith(f"{home}/") for name in importers), importers


def test_checks_import_no_adapter_and_do_no_io() -> None:
    forbidden = {"os", "io", "socket", "subprocess", "shutil", "urllib", "requests", "http", "time", "random", "sys"}
    wrong = []
    for path in _python("checks"):
        for line, module in _imports(path):
            words = module.split(".")
            if words[0] in forbidden or (words[0] == "harness" and len(words) > 1 and words[1] in ADAPTERS):
                wrong.append(f"{_name(path)}:{line} imports {module}")
        for node in _nodes(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOOKS:
                wrong.append(f"{_name(path)}:{node.lineno} calls {node.func.id}")
            if isinstance(node, ast.Attribute) and node.attr.startswith(("read_", "write_", "iterdir", "unlink")):
                wrong.append(f"{_name(path)}:{node.lineno} uses .{node.attr}")
    assert not wrong, "\n".join(wrong)


def test_no_provider_is_known_by_name_in_the_engine() -> None:
    naming = {
        _name(path)
        for path in (ROOT / "harness").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "vast" in path.read_text(encoding="utf-8").lower()
    }
    wrong = {name for name in naming if not any(_is_in(name, place) for place in VAST_IS_NAMED_IN)}
    assert not wrong, wrong
    stale = {place for place in VAST_IS_NAMED_IN if not any(_is_in(name, place) for name in naming)}
    assert not stale, stale


def test_the_package_and_the_harness_share_no_code() -> None:
    ours = {"harness", "checks", "tests"}
    for path in _python("training_pkg"):
        assert not [m for _, m in _imports(path) if m.split(".")[0] in ours], _name(path)
    for folder in ("harness", "checks"):
        for path in _python(folder):
            assert not [m for _, m in _imports(path) if m.split(".")[0] in {"training_pkg", "forex"}], _name(path)


def test_nothing_but_tests_imports_tests() -> None:
    for folder in ("harness", "checks", "training_pkg"):
        for path in _python(folder):
            assert not [m for _, m in _imports(path) if m.split(".")[0] == "tests"], _name(path)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _readings(path: Path) -> Iterator[str]:
    """Where a file reads clock, chance or environment."""
    for line, module in _imports(path):
        if module.split(".")[0] in CHANCE_MODULES:
            yield f"{_name(path)}:{line} imports {module}"
    for node in _nodes(path):
        if isinstance(node, ast.Attribute):
            last_two = ".".join(_dotted(node).split(".")[-2:])
            if last_two in CLOCK_AND_CHANCE:
                yield f"{_name(path)}:{node.lineno} uses {last_two}"
        if isinstance(node, ast.ImportFrom) and node.module in {"time", "os"}:
            taken = {f"{node.module}.{alias.name}" for alias in node.names} & CLOCK_AND_CHANCE
            yield from (f"{_name(path)}:{node.lineno} takes {one}" for one in sorted(taken))


def _is_in(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}/")


def _has_leave(name: str) -> bool:
    return any(_is_in(name, place) for place in ONE_PLACES)


@pytest.mark.parametrize("folder", ["harness", "checks"])
def test_clock_chance_and_environment_enter_in_one_place(folder: str) -> None:
    found = [one for path in _python(folder) if not _has_leave(_name(path)) for one in _readings(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source", ["import random", "import time\ntime.time()", "from time import sleep", "import os\nos.environ['X']"]
)
def test_a_reading_would_be_seen(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "bad.py").write_text(source)
    assert list(_readings(tmp_path / "bad.py"))


def _loaded(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import harness",
        "import harness.plugin, harness.gates.judge, harness.release.release",
        "import harness.cli.main, harness.guard.destroy, harness.runner.run, harness.wiring",
    ],
)
def test_what_is_heavy_is_loaded_when_it_is_needed(statement: str) -> None:
    heavy = {"torch", "transformers", "vastai", "aiohttp", "asyncssh", "datasets", "xllamacpp", "numpy", "sqlalchemy"}
    heavy |= {"dbos", "psycopg"}
    if "cli" not in statement:
        heavy.add("paramiko")
    assert not _loaded(statement) & heavy


def test_no_module_grows_past_reading() -> None:
    """One concept a module: a file of more than 400 lines holds two."""
    long = {
        _name(path): lines
        for folder in ("harness", "checks", "training_pkg")
        for path in _python(folder)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long, long


def _defined(folder: str) -> Iterator[tuple[Path, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module]]:
    for path in _python(folder):
        for node in _nodes(path):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
                yield path, node


def test_no_two_public_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for path, node in _defined("harness"):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            places.setdefault(node.name, []).append(_name(path))
    assert not {name: where for name, where in places.items() if len(where) > 1}


@pytest.mark.parametrize("folder", ["harness", "checks", "training_pkg"])
def test_a_docstring_names_its_subject_first(folder: str) -> None:
    """A field engineer reads "Digest of a file" once, and "What the file's bytes come to" twice."""
    questions = ("What ", "Whether ", "Whose ", "Which ", "Who ")
    wrong = [
        f"{_name(path)}:{getattr(node, 'lineno', 1)}: {said.splitlines()[0]}"
        for path, node in _defined(folder)
        if (said := ast.get_docstring(node) or "").startswith(questions)
    ]
    assert not wrong, "\n".join(wrong)
