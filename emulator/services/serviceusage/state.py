"""What was enabled and disabled, and the operations that did it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

from google.api_core.exceptions import NotFound

from emulator.core.projects import Project
from emulator.core.state import Database
from emulator.services.serviceusage.catalogue import ENABLED_AT_FIRST

#: Operations kept after they are done.
_KEPT = 1000


class UsageState:
    """States of services by project; everything else is as in the catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.create(
            "CREATE TABLE IF NOT EXISTS service_states (project TEXT NOT NULL, service TEXT NOT NULL, "
            "enabled INTEGER NOT NULL, PRIMARY KEY (project, service))",
            "CREATE TABLE IF NOT EXISTS service_operations (sequence INTEGER PRIMARY KEY AUTOINCREMENT, "
            "name TEXT UNIQUE NOT NULL, operation TEXT NOT NULL)",
        )

    def enabled(self, project: Project) -> frozenset[str]:
        rows = self._database.query("SELECT service, enabled FROM service_states WHERE project = ?", (project.id,))
        changed = {row["service"]: bool(row["enabled"]) for row in rows}
        return frozenset(name for name in ENABLED_AT_FIRST | set(changed) if changed.get(name, True))

    def change(self, project: Project, services: Iterable[str], *, enabled: bool) -> None:
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO service_states VALUES (?, ?, ?)",
                [(project.id, service, enabled) for service in services],
            )

    def add_operation(self, project: Project, kind: str, response: dict[str, Any]) -> str:
        """The name of a new operation, which is done when it is looked at. kind: `p2` enables, `p17` disables."""
        name = f"operations/acat.{kind}-{project.number}-{uuid.uuid4()}"
        operation = {
            "name": name,
            "metadata": {"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}},
            "done": True,
            "response": response,
        }
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO service_operations (name, operation) VALUES (?, ?)", (name, json.dumps(operation))
            )
            connection.execute(
                "DELETE FROM service_operations WHERE sequence <= (SELECT MAX(sequence) FROM service_operations) - ?",
                (_KEPT,),
            )
        return name

    def operation(self, name: str) -> dict[str, Any]:
        """Raises NotFound."""
        rows = self._database.query("SELECT operation FROM service_operations WHERE name = ?", (name,))
        if not rows:
            raise NotFound(f"Operation {name} not found.")
        found: dict[str, Any] = json.loads(rows[0]["operation"])
        return found
