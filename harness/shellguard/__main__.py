"""``python -m harness.shellguard``: the agent's hook alone, which starts fast."""

from __future__ import annotations

import sys


def main() -> int:
    """Read a request from standard input, write the answer, return the exit code. Never lets a failure pass as yes."""
    try:
        from harness.shellguard.hook import MAX_INPUT, answer  # noqa: PLC0415  # an import that fails must block too

        reply = answer(sys.stdin.buffer.read(MAX_INPUT + 1))
        sys.stdout.write(reply.stdout)
        sys.stdout.flush()
        sys.stderr.write(reply.stderr)
    except Exception as error:  # noqa: BLE001  # exit code 1 would let the command run: every failure must end in 2
        sys.stderr.write(f"harness guard: blocked, the guard itself failed: {type(error).__name__}: {error}\n")
        return 2
    return reply.exit_code


if __name__ == "__main__":
    sys.exit(main())
