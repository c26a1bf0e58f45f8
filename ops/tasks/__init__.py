"""The tasks of `tasks.py`, a module a group: a task parses, calls the rest of `ops` and prints.

Packages are imported inside the tasks, so that listing them costs nothing.
"""
