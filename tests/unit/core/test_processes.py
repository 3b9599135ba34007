"""Processes below a directory: those that may still write, told from terminals that wait for a person."""

from __future__ import annotations

import pytest

from harness.core.answers import Process, Processes


def at_work(*argv: str, state: str = "S") -> tuple[str, ...]:
    return Processes((Process(7, 1, state, argv),)).at_work()


@pytest.mark.parametrize(
    "argv",
    [
        ("python3", "train_deepseek_forex.py", "--stage", "all"),
        ("bash", "train.sh"),
        ("bash", "-c", "python3 train.py"),
        ("/bin/sh", "-ec", "cp a b"),
        ("sh", "-x", "run"),
        ("tee", "training.log"),
        ("rsync", "bash"),
        ("bash5",),
        (),
    ],
)
def test_a_program_is_at_work(argv: tuple[str, ...]) -> None:
    assert at_work(*argv) == (f"7 {' '.join(argv)}",)


@pytest.mark.parametrize(
    "argv",
    [
        ("bash",),
        ("-bash",),
        ("/bin/bash", "--login"),
        ("zsh", "-il"),
        ("-fish",),
        ("tmux", "new", "-s", "train"),
        ("tmux: server",),
        ("SCREEN", "-S", "train"),
    ],
)
def test_a_terminal_at_its_prompt_is_not(argv: tuple[str, ...]) -> None:
    assert at_work(*argv) == ()


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_dead_process_is_not(state: str) -> None:
    assert at_work("python3", "train.py", state=state) == ()
