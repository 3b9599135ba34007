"""Where the contract with a training package says what a message is about."""

from __future__ import annotations


def section(heading: str) -> str:
    """Remark that points to a section of the contract, for the end of a message; ``heading`` begins the section's."""
    return f"(docs/contract.md, section {heading!r})"
