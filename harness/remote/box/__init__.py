"""Programs that run on the box: standard library only, Python 3.8 and later; sent as text, never installed."""
