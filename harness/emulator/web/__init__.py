"""The HTTP API: routes, answers, and the faults between."""
