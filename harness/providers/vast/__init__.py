"""Vast.ai, through its official client, which is imported when the first request is made."""
