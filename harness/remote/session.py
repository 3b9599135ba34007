"""Training on the box: started once however often it is asked for, watched, stopped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.core.answers import SessionState
from harness.core.errors import BadInput, HostUnreachable
from harness.core.observed import Observed
from harness.core.ports import Host, Json
from harness.core.questions import SessionOf
from harness.remote.acting import act
from harness.remote.probe import program
from harness.remote.probe.typed import typed

LOG = "training.log"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class TrainingSession:
    """Command of one directory on the box, in a tmux session (where a person can attach) or under setsid."""

    def __init__(self, host: Host, directory: str, name: str = "train") -> None:
        if not NAME.fullmatch(name):
            raise BadInput(f"{name!r} cannot name a terminal session (letters, digits, '_' and '-')")
        self._host = host
        self._directory = directory
        self._name = name

    def start(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, job: Mapping[str, Json] | None = None
    ) -> bool:
        """Run ``argv`` in the directory, output appended to the log; False when it runs or has ended well.

        ``job`` is what the box may know of the job: it is kept there as ``.harness/job.json``.

        Two callers at once start one. Raises HostUnreachable when the box cannot be asked or cannot start it.
        """
        for name in env or {}:
            if not VARIABLE.fullmatch(name):
                raise BadInput(f"{name!r} cannot name an environment variable")
        request: dict[str, Json] = {
            "directory": self._directory,
            "name": self._name,
            "argv": list(argv),
            "env": dict(env or {}),
            "log": LOG,
            "job": dict(job or {}),
        }
        answer = self._act("start", request, timeout=60.0)
        fresh = answer.get("fresh") if isinstance(answer, dict) else None
        if not isinstance(fresh, bool):
            raise HostUnreachable(f"the box answers oddly about the start of the training: {str(answer)[:200]!r}")
        return fresh

    def state(self) -> SessionState:
        """State now. Raises HostUnreachable when it cannot be seen."""
        return _seen(self._host.probe([session := SessionOf(self._directory)], timeout=60.0)[session])

    def alive(self) -> bool:
        """True while anything of it runs. Raises HostUnreachable."""
        return self.state().alive

    def stop(self, grace: float = 20.0) -> SessionState:
        """End it by SIGTERM and, after ``grace`` seconds, SIGKILL; return its state. Does nothing when it has ended."""
        answer = self._act("stop", {"directory": self._directory, "grace": grace}, timeout=grace + 60.0)
        return _seen(typed(answer, SessionState))

    def _act(self, verb: str, args: dict[str, Json], timeout: float) -> Json:
        return act(self._host, program.SESSION, verb, args, of="the training", timeout=timeout)


def _seen(state: Observed[SessionState]) -> SessionState:
    if state.value is None:
        raise HostUnreachable(f"the training's session cannot be looked at: {state.problem}")
    return state.value
