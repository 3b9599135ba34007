"""Judges command lines: what would lose data or break the operating rules is held, the rest goes by."""
