"""Fixtures and settings shared by all rooms."""

from __future__ import annotations

import os

from hypothesis import settings

# A gate for others must not turn red by luck: CI tries the same examples each time, people try new ones.
settings.register_profile("same-each-time", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("same-each-time")
