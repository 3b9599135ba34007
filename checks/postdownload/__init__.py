"""Checks of stage postdownload."""
