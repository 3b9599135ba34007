"""Many jobs at once: a fleet file, and workers that drive its jobs to their ends through one queue of DBOS.

DBOS keeps which job waits, runs, ended or is held, and hands each to one worker. What happened to a job is in its own
event log alone; a stage that is driven a second time finds there what the first time did.
"""
