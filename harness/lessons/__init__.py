"""The lessons that were paid for, as experiments: what was claimed, what is seen on the versions installed."""
