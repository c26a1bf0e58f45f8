"""Results of earlier tasks, used again: what decides that, and where they are.

A result belongs to its execution in ML Metadata, and is gone with it.
Source: https://cloud.google.com/vertex-ai/docs/pipelines/configure-caching
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from selfloop_apis.aiplatform_v1 import Execution

from emulator.core.state import Database
from emulator.services.aiplatform.pipelines.lineage import Lineage, as_value, execution_name
from emulator.services.aiplatform.pipelines.nodes import Leaf
from emulator.services.aiplatform.pipelines.values import RunFacts, Values


class Cache:
    """The last successful result for each key."""

    def __init__(self, database: Database, lineage: Lineage) -> None:
        self._database = database
        self._lineage = lineage
        database.create(
            "CREATE TABLE IF NOT EXISTS pipeline_cache (key TEXT PRIMARY KEY, execution TEXT NOT NULL, "
            "outputs TEXT NOT NULL)"
        )

    def find(self, leaf: Leaf, run: RunFacts) -> Values | None:
        """What an equal task left in a run of the same pipeline, or None."""
        rows = self._database.query("SELECT execution, outputs FROM pipeline_cache WHERE key = ?", (_key(leaf, run),))
        if not rows:
            return None
        execution = self._lineage.execution(rows[0]["execution"])
        if execution is None or execution.state not in (Execution.COMPLETE, Execution.CACHED):
            return None
        kept: dict[str, Any] = json.loads(rows[0]["outputs"])
        artifacts = {}
        for name, listed in kept["artifacts"].items():
            found = [self._lineage.artifact(one) for one in listed]
            if not all(found):
                return None
            artifacts[name] = [as_value(one) for one in found if one is not None]
        return Values(kept["parameters"], artifacts)

    def keep(self, leaf: Leaf, run: RunFacts) -> None:
        """Remember a task that succeeded."""
        outputs = {
            "parameters": dict(leaf.outputs.parameters),
            "artifacts": {name: [one.name for one in listed] for name, listed in leaf.outputs.artifacts.items()},
        }
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO pipeline_cache VALUES (?, ?, ?)",
                (_key(leaf, run), execution_name(run.location, leaf), json.dumps(outputs)),
            )


def _key(leaf: Leaf, run: RunFacts) -> str:
    """Same place, same pipeline, and: what the component is, and what goes into it; or the key that the task names."""
    own = leaf.task.cache_key if leaf.task else ""
    what: list[Any] = [own] if own else [
        leaf.component.fingerprint,
        dict(leaf.inputs.parameters),
        {name: [(one.name, one.uri) for one in listed] for name, listed in leaf.inputs.artifacts.items()},
    ]  # fmt: skip
    text = json.dumps([run.location.parent, run.pipeline_name, *what], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
