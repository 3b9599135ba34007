"""Drives a job: state -> act -> gate -> event -> the next stage; safe to kill at any instruction."""
