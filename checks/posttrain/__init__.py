"""Checks of stage posttrain."""
