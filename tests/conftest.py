"""Fixtures shared by all rooms."""

from __future__ import annotations
