"""Checks of stage provision."""
