"""The command line: one file a command group; it prints, and never decides."""
