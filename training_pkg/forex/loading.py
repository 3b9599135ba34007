"""Imports of large libraries, undisturbed: the collector finds no garbage in them, and looks at a million objects."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Import without the garbage collector, which takes a fifth of the time; what was loaded it passes over later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
