"""The one place where the environment is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from harness.core.errors import BadInput

HOME_VARIABLE = "HARNESS_HOME"
NOTIFY_VARIABLE = "HARNESS_NOTIFY"
STATE_VARIABLE = "HARNESS_STATE"
STATE_FILE = "state.db"
"""Name of the event store in a home, where no URL names another."""


def variables() -> Mapping[str, str]:
    """All of them, for a resolver that is handed its environment."""
    return dict(os.environ)


def keep_loopback_direct() -> None:
    """Have HTTP clients of this process ask this machine itself, whatever proxy the environment names."""
    for name in ("NO_PROXY", "no_proxy"):
        known = [entry for entry in os.environ.get(name, "").split(",") if entry]
        os.environ[name] = ",".join(dict.fromkeys([*known, "127.0.0.1", "localhost"]))


def home() -> Path:
    """Folder of the jobs, their event log and the harness's SSH key: HARNESS_HOME, else the user's data directory.

    One place for the whole user, whatever the working directory, so that no rented instance is forgotten.
    Raises BadInput for a place that is none, or that depends on the working directory.
    """
    given = os.environ.get(HOME_VARIABLE)
    if not given:
        return Path(platformdirs.user_data_path("gold-standard-harness"))
    try:
        place = Path(given).expanduser()
        whole = place.resolve()
    except (RuntimeError, OSError) as error:
        raise BadInput(f"{HOME_VARIABLE}={given} is no place on this machine: {error}") from error
    if not place.is_absolute():
        raise BadInput(
            f"{HOME_VARIABLE}={given} is a relative path: typed in another directory, the same command would not know "
            "the jobs that were begun in this one",
            remedy=f"Set it to the whole path: {HOME_VARIABLE}={whole}",
        )
    return whole


def state_url() -> str | None:
    """URL of the event store where it is not a file in the home: HARNESS_STATE. It may hold a password.

    Raises BadInput for a file whose place depends on the working directory.
    """
    given = os.environ.get(STATE_VARIABLE, "").strip()
    scheme, known, path = given.partition(":///")
    if given and (not known if "://" not in given else scheme == "sqlite" and not Path(path).is_absolute()):
        raise BadInput(
            f"{STATE_VARIABLE} names no place that is the same in every directory",
            remedy=f"{STATE_VARIABLE}=postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or sqlite:/// and a whole path "
            f"(sqlite:////srv/jobs/state.db); without it the jobs are in {HOME_VARIABLE}.",
        )
    return given or None


def has_state(home: Path) -> bool:
    """True when there is an event store to look at: looking makes none."""
    return state_url() is not None or (home / STATE_FILE).is_file()


def notify_urls() -> tuple[str, ...]:
    """URLs of HARNESS_NOTIFY, with blanks between them: who is told of every job."""
    return tuple(os.environ.get(NOTIFY_VARIABLE, "").split())


def user_home() -> Path:
    """Home folder of the user, in which ``.ssh`` lies. Raises BadInput where there is none."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise BadInput(f"there is no home folder: {error}", remedy="Set HOME (USERPROFILE on Windows).") from error


def github_step_summary() -> Path | None:
    """The file that GitHub shows as the step's summary, when running there."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(path) if path else None


def on_github() -> bool:
    """True where GitHub Actions reads annotations from standard output."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def for_gate() -> dict[str, str]:
    """The environment of a gate's pytest: this one, less all that could change what pytest selects or asserts."""
    scrubbed = {
        "PYTEST_ADDOPTS",
        "PYTEST_PLUGINS",
        "PYTHONOPTIMIZE",
        "PYTHONSTARTUP",
        "GITHUB_STEP_SUMMARY",
        NOTIFY_VARIABLE,
        STATE_VARIABLE,
    }
    kept = {name: value for name, value in os.environ.items() if name.upper() not in scrubbed}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONUTF8": "1"}


def for_strangers_file() -> dict[str, str]:
    """The environment of a program that loads a stranger's file: what it needs to start, and no key of any kind."""
    needed = {"PATH", "PYTHONPATH", "TEMP", "TMP", "TMPDIR", "SYSTEMROOT", "WINDIR", "LANG", "LC_ALL"}
    needed |= {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"}
    return {name: value for name, value in os.environ.items() if name.upper() in needed}


def search_path() -> tuple[str, ...]:
    """The directories where programs are looked for, in their order."""
    return tuple(entry for entry in os.environ.get("PATH", "").split(os.pathsep) if entry)


def program_suffixes() -> tuple[str, ...]:
    """Endings that a program's file may have: PATHEXT on Windows, none elsewhere."""
    if os.name != "nt":
        return ("",)
    return tuple(s.lower() for s in os.environ.get("PATHEXT", ".COM;.EXE;.BAT;.CMD").split(";") if s)
