"""Project ids and numbers. Any valid id exists from its first use, as a project of one's own would."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from google.api_core.exceptions import InvalidArgument, PermissionDenied

from emulator.core.clock import Clock
from emulator.core.state import Database

#: Source: https://cloud.google.com/resource-manager/docs/creating-managing-projects
_PROJECT_ID = re.compile(r"(?:[a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")


@dataclass(frozen=True)
class Project:
    id: str
    number: str
    create_time: str
    """RFC 3339"""


class Projects:
    """Every project that a client has named so far."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        database.create(
            "CREATE TABLE IF NOT EXISTS projects (id TEXT PRIMARY KEY, number TEXT UNIQUE NOT NULL, "
            "create_time TEXT NOT NULL)"
        )
        self.get = lru_cache(maxsize=1024)(self._get)

    def _get(self, name: str) -> Project:
        """The project of an id or a number.

        Raises InvalidArgument for what cannot be an id, PermissionDenied for a number that no id has been
        given: Google does not tell a missing project from a hidden one.
        """
        column = "number" if name.isdecimal() else "id"
        query = f"SELECT * FROM projects WHERE {column} = ?"  # noqa: S608
        rows = self._database.query(query, (name,))
        if not rows:
            if column == "number":
                raise PermissionDenied(f"The caller does not have permission to project {name}, or it may not exist.")
            self._create(name)
            rows = self._database.query(query, (name,))
        return Project(rows[0]["id"], rows[0]["number"], rows[0]["create_time"])

    def _create(self, project_id: str) -> None:
        if not _PROJECT_ID.fullmatch(project_id):
            raise InvalidArgument(f"Invalid project id {project_id!r}: 6 to 30 of a-z, 0-9 and -, a letter first.")
        # From the id, so that a state made anew gives a project the number it had.
        number = str(10**11 + int.from_bytes(hashlib.sha256(project_id.encode()).digest()[:8]) % (9 * 10**11))
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO projects VALUES (?, ?, ?)",
                (project_id, number, self._clock.now().isoformat().replace("+00:00", "Z")),
            )

    def list(self) -> list[Project]:
        rows = self._database.query("SELECT * FROM projects ORDER BY id")
        return [Project(row["id"], row["number"], row["create_time"]) for row in rows]

    def canonical(self, name: str) -> str:
        """A resource name with the project's number in place of its id, as Vertex AI answers."""
        return re.sub(r"^projects/([^/]+)", lambda match: f"projects/{self.get(match[1]).number}", name)

    def with_id(self, name: str) -> str:
        """A resource name with the project's id, as Logging, Storage and Pub/Sub answer."""
        return re.sub(r"^projects/([^/]+)", lambda match: f"projects/{self.get(match[1]).id}", name)
