"""Checks of stage upload."""
