"""What options mean wherever they appear, and the exit codes that are no errors."""

from __future__ import annotations

CHANGES = 2
"""exit code: changes or drift present"""

ENV = "name of a file in config/, e.g. dev"
OUTPUT = "text, json or markdown"
TEXT_OR_JSON = "text or json"
YES = "do not ask"
PLAN = "show what would be done and change nothing"
EMULATED = "rehearse an environment of Google Cloud on this machine's emulator"
TIMEOUT = "seconds to wait; 0 waits until the end"
MODEL = "key under models; not needed when there is one"
ENDPOINT = "key under endpoints; not needed when there is one"
PIPELINE = "key under pipelines; not needed when there is one"
EXPERIMENT = "name of an experiment; the one that trainings declare when left out"
RUN = "id of a run; the latest when left out"
DATASET = "key under datasets; not needed when there is one"
COMMON = {"env": ENV, "emulated": EMULATED}
CHANGING = {**COMMON, "yes": YES}
