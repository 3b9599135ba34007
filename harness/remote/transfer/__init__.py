"""Bytes to and from the box, each verified from the disk that they were written to."""
