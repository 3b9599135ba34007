"""Checks of stage teardown."""
