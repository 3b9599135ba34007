"""Checks of stage launch."""
