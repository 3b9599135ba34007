"""Checks of stage install."""
