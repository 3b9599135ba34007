"""The rented box over SSH: ask it, send to it, fetch from it; the only room that imports paramiko."""
