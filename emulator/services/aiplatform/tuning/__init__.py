"""Hyperparameter tuning jobs.

spec.py      what a study may ask for
space.py     points of its space
search.py    which point is tried next
reports.py   what trials report
jobs.py      jobs at work
"""
