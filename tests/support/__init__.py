"""What several tests need: a clock that can be turned, a scripted HTTP server, faults on switches."""
