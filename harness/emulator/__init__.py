"""A Vast.ai that runs on this machine: its HTTP API, SSH boxes behind it, faults on switches, a clock one can turn."""
