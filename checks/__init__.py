"""The gates: one folder a stage, one claim a check."""
