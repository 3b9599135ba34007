"""Checks of stage training."""
