"""The models of the registry, their versions and aliases.

A model is what its versions share; a version is a Model message named `…/models/M@V`. Exactly one version
holds the alias `default`, and ids of versions are never given twice. Uploads and finished trainings register
here.
Source: https://cloud.google.com/vertex-ai/docs/model-registry/versioning
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from google.api_core.exceptions import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from selfloop_apis import aiplatform_v1

from emulator.core.clock import Clock
from emulator.core.ids import new_etag, new_id
from emulator.core.messages import stamp
from emulator.core.projects import Projects
from emulator.core.state import Database
from emulator.services.aiplatform import model_resources as resources
from emulator.services.aiplatform import names
from emulator.services.aiplatform.metadata.tracked import TrackedResources
from emulator.services.aiplatform.model_files import ModelFiles

Model = aiplatform_v1.Model


@dataclass(frozen=True)
class Upload:
    """A checked request: the model's name is settled, its files have not been looked at yet."""

    name: str
    """`projects/N/locations/L/models/M`"""
    is_new: bool
    model: Model
    source: str = ""
    """`models/M@V` where the files are that version's, and not those at artifact_uri"""


class ModelVersions:
    """Models by name. Hands out copies; holds the only locks. A `ModelSink` for training."""

    def __init__(
        self, *, database: Database, clock: Clock, projects: Projects, files: ModelFiles, tracked: TrackedResources
    ) -> None:
        self._database = database
        self._tracked = tracked
        self._clock = clock
        self._projects = projects
        self._files = files
        #: (`models/M@V`, endpoint) of the deployments that have begun and are not stored yet.
        self._deploying: Counter[tuple[str, str]] = Counter()
        database.create(
            "CREATE TABLE IF NOT EXISTS models (sequence INTEGER PRIMARY KEY AUTOINCREMENT, "
            "name TEXT UNIQUE NOT NULL, location TEXT NOT NULL, default_version INTEGER NOT NULL, "
            "last_version INTEGER NOT NULL, message BLOB NOT NULL)",
            "CREATE INDEX IF NOT EXISTS models_by_location ON models (location, sequence)",
            "CREATE TABLE IF NOT EXISTS model_versions (model TEXT NOT NULL, version INTEGER NOT NULL, "
            "message BLOB NOT NULL, PRIMARY KEY (model, version))",
        )

    # Registering

    def prepare(self, parent: str, model: Model, model_id: str, parent_model: str) -> Upload:
        """Check what can be checked at once, and settle the model's name.

        Raises InvalidArgument, NotFound for a parent_model that is not there, AlreadyExists for a model_id
        that is taken.
        """
        location = names.location_of(self._projects, parent).parent
        resources.check_upload(model, model_id, parent_model)
        if parent_model:
            name = resources.parse_model_name(parent_model, self._projects)
            if name.location != location:
                raise InvalidArgument(f"The parent_model must be in {location}.")
            self._row(name.model)
            return Upload(name.model, False, model)
        name_of_new = f"{location}/models/{model_id or new_id()}"
        if self._find_row(name_of_new) is not None:
            raise AlreadyExists(f"The Model `{name_of_new}` already exists.")
        return Upload(name_of_new, True, model)

    def prepare_copy(self, request: aiplatform_v1.CopyModelRequest) -> Upload:
        """The same for a copy of another model's version, from any location.

        Raises what `prepare` raises, NotFound for a source that is not there.
        """
        source = self.resolve(request.source_model)
        model = resources.copy_of(self.get(source), source, request)
        upload = self.prepare(request.parent, model, request.model_id, request.parent_model)
        resources.check_copy(model, source, upload.name)
        return replace(upload, source=source)

    def register(self, parent: str, model: Model, model_id: str, parent_model: str) -> Model:
        """Check, copy the files and add the version, in one step: see `ModelSink`."""
        return self.add(self.prepare(parent, model, model_id, parent_model))

    def add(self, upload: Upload) -> Model:
        """Copy the model's files and add the version. This is what a long-running operation does.

        Raises NotFound for a bucket that is not there, FailedPrecondition for files that the image cannot
        serve.
        """
        arrived = self._files.duplicate(upload.source) if upload.source else self._files.fetch(upload.model)
        try:
            with self._files.changing:
                version_id = self._insert(upload, arrived)
        finally:
            self._files.discard(arrived)
        return self.get(f"{upload.name}@{version_id}")

    def _insert(self, upload: Upload, arrived: Path | None) -> int:
        with self._database.transaction() as connection:
            if upload.source:
                self.resolve(upload.source)
            now = self._clock.now()
            version = resources.version_part(upload.model, is_first=upload.is_new)
            if upload.is_new:
                if self._find_row(upload.name) is not None:
                    raise AlreadyExists(f"The Model `{upload.name}` already exists.")
                version_id = 1
                shared = resources.shared_part(upload.model, upload.name, now)
                connection.execute(
                    "INSERT INTO models (name, location, default_version, last_version, message) "
                    "VALUES (?, ?, 1, 1, ?)",
                    (upload.name, upload.name.rpartition("/models/")[0], shared.SerializeToString()),
                )
            else:
                version_id = int(self._row(upload.name)["last_version"]) + 1
                connection.execute("UPDATE models SET last_version = ? WHERE name = ?", (version_id, upload.name))
                self._touch_model(upload.name)
            aliases = list(dict.fromkeys(version.version_aliases))
            version.ClearField("version_aliases")
            resources.complete_version(version, upload.name, version_id, now)
            version.metadata_artifact = self._tracked.add_model(
                names.location_of(self._projects, upload.name), version, upload.model.display_name, version.pipeline_job
            )
            connection.execute(
                "INSERT INTO model_versions VALUES (?, ?, ?)",
                (upload.name, version_id, version.SerializeToString()),
            )
            if upload.is_new and resources.DEFAULT_ALIAS not in aliases:
                aliases.append(resources.DEFAULT_ALIAS)
            self._give_aliases(upload.name, version_id, aliases)
            if arrived:
                # Last before the commit: what a crash leaves there is of a version that was never given.
                self._files.place(f"{upload.name}@{version_id}", arrived)
        return version_id

    # Reading

    def get(self, name: str) -> Model:
        """The version that `models/M`, `models/M@2` or `models/M@alias` names. Raises NotFound."""
        parsed = resources.parse_model_name(name, self._projects)
        row = self._row(parsed.model)
        version = self._version(parsed.model, self._resolve(parsed.model, parsed.version))
        return resources.join(Model.FromString(row["message"]), version)

    def resolve(self, name: str) -> str:
        """`projects/N/locations/L/models/M@V` of any way to name that version. Raises NotFound."""
        parsed = resources.parse_model_name(name, self._projects)
        self._row(parsed.model)
        version_id = self._resolve(parsed.model, parsed.version)
        return self._version(parsed.model, version_id).name

    def models(self, parent: str) -> list[Model]:
        """The default version of each model of a location, newest model first."""
        rows = self._database.query(
            "SELECT models.message AS shared, model_versions.message AS version "
            "FROM models JOIN model_versions ON model = name AND version = default_version "
            "WHERE location = ? ORDER BY sequence DESC",
            (names.location_of(self._projects, parent).parent,),
        )
        return [resources.join(Model.FromString(row["shared"]), Model.FromString(row["version"])) for row in rows]

    def versions(self, name: str) -> list[Model]:
        """Every version of a model, newest first, each by its own name `models/M@V`. Raises NotFound."""
        parsed = resources.parse_model_name(name, self._projects)
        shared = Model.FromString(self._row(parsed.model)["message"])
        found = []
        for version in self._versions(parsed.model):
            shown = resources.join(shared, version)
            # The one answer in which a name carries the version: "In the returned Model name field, version
            # ID instead of revision tag will be included."
            shown.name = version.name
            found.append(shown)
        return found

    # Changing

    def change_model(self, model: str, etag: str, change: Callable[[Model], None]) -> None:
        """Apply a change to what the versions share. Raises NotFound, Aborted for an outdated etag."""
        with self._database.transaction() as connection:
            shared = Model.FromString(self._row(model)["message"])
            resources.check_model_etag(etag, shared)
            change(shared)
            shared.etag = new_etag()
            stamp(shared.update_time, self._clock.now())
            connection.execute("UPDATE models SET message = ? WHERE name = ?", (shared.SerializeToString(), model))

    def change_version(self, model: str, version: str, etag: str, change: Callable[[Model], None]) -> None:
        """Apply a change to one version, by id or alias. Raises NotFound, Aborted."""
        with self._database.transaction():
            shared = Model.FromString(self._row(model)["message"])
            message = self._version(model, self._resolve(model, version))
            resources.check_etag(etag, resources.joint_etag(shared, message))
            change(message)
            self._store_version(model, message)
            self._touch_model(model)

    def merge_aliases(self, name: str, changes: Iterable[str]) -> Model:
        """Give a version aliases, and take from it those written with a `-` before them. Raises NotFound,
        InvalidArgument for a name without a version, a bad alias, or the removal of `default`.
        """
        parsed = self._with_version(name)
        added, removed = resources.parse_alias_changes(changes)
        with self._database.transaction():
            self._row(parsed.model)
            version = self._version(parsed.model, self._resolve(parsed.model, parsed.version))
            kept = [alias for alias in version.version_aliases if alias not in removed]
            version.ClearField("version_aliases")
            version.version_aliases.extend(kept)
            self._store_version(parsed.model, version)
            self._give_aliases(parsed.model, int(version.version_id), added)
            self._touch_model(parsed.model)
        return self.get(version.name)

    @contextmanager
    def being_deployed(self, name: str, endpoint: str) -> Iterator[Model]:
        """The version that a name means, kept from being deleted while an endpoint begins to serve it.

        Raises NotFound.
        """
        with self._database.transaction():
            version = self.resolve(name)
            model = self.get(version)
            self._deploying[version, endpoint] += 1
        try:
            yield model
        finally:
            with self._database.transaction():
                self._deploying[version, endpoint] -= 1
                self._deploying += Counter()  # without those that are none any more

    def add_deployment(self, version: str, endpoint: str, deployed_model_id: str) -> None:
        """Note in `deployed_models` of `models/M@V` that an endpoint serves it. Raises NotFound."""
        model, _, version_id = version.partition("@")
        with self._database.transaction():
            self._row(model)
            message = self._version(model, int(version_id))
            message.deployed_models.add(endpoint=endpoint, deployed_model_id=deployed_model_id)
            self._store_version(model, message, stamped=False)

    def remove_deployment(self, version: str, endpoint: str, deployed_model_id: str) -> None:
        """The reverse of add_deployment; nothing for a version that is gone."""
        model, _, version_id = version.partition("@")
        with self._database.transaction():
            try:
                message = self._version(model, int(version_id))
            except NotFound:
                return
            others = [
                deployed
                for deployed in message.deployed_models
                if (deployed.endpoint, deployed.deployed_model_id) != (endpoint, deployed_model_id)
            ]
            message.ClearField("deployed_models")
            message.deployed_models.extend(others)
            self._store_version(model, message, stamped=False)

    def delete_version(self, name: str, forget: Callable[[str], None]) -> None:
        """Remove one version, its files, and what `forget` removes given its name `models/M@V`.

        Raises InvalidArgument where no version is named, FailedPrecondition for the only version, the default
        one, one that is deployed.
        """
        parsed = self._with_version(name)
        with self._files.changing:
            with self._database.transaction() as connection:
                self._row(parsed.model)
                version = self._version(parsed.model, self._resolve(parsed.model, parsed.version))
                if len(self._versions(parsed.model)) == 1:
                    raise FailedPrecondition(
                        f"The Model version `{version.name}` is the only one of its Model; delete that instead."
                    )
                self._check_not_deployed([version])
                if resources.DEFAULT_ALIAS in version.version_aliases:
                    raise FailedPrecondition(
                        f"The Model version `{version.name}` is the default one; move the alias `default` first."
                    )
                connection.execute(
                    "DELETE FROM model_versions WHERE model = ? AND version = ?",
                    (parsed.model, int(version.version_id)),
                )
                self._touch_model(parsed.model)
                forget(version.name)
            self._files.remove([version.name])

    def delete(self, name: str, forget: Callable[[str], None]) -> None:
        """Remove a model with all of its versions: their files, and what `forget` removes given `models/M@V`.

        Raises NotFound, FailedPrecondition while an endpoint serves any of them.
        """
        model = resources.parse_model_name(name, self._projects).model
        with self._files.changing:
            with self._database.transaction() as connection:
                self._row(model)
                versions = self._versions(model)
                self._check_not_deployed(versions)
                connection.execute("DELETE FROM model_versions WHERE model = ?", (model,))
                connection.execute("DELETE FROM models WHERE name = ?", (model,))
                for version in versions:
                    forget(version.name)
            self._files.remove(version.name for version in versions)

    def _check_not_deployed(self, versions: Iterable[Model]) -> None:
        for version in versions:
            deploying = [endpoint for name, endpoint in self._deploying if name == version.name]
            resources.check_not_deployed(version, deploying)

    # Rows

    def _with_version(self, name: str) -> resources.ModelName:
        parsed = resources.parse_model_name(name, self._projects)
        if not parsed.version:
            raise InvalidArgument(f"The name must have a version id or alias, such as {parsed.model}@1.")
        return parsed

    def _find_row(self, model: str) -> sqlite3.Row | None:
        rows = self._database.query("SELECT * FROM models WHERE name = ?", (model,))
        return rows[0] if rows else None

    def _row(self, model: str) -> sqlite3.Row:
        row = self._find_row(model)
        if row is None:
            raise NotFound(f"The Model `{model}` does not exist.")
        return row

    def _resolve(self, model: str, version: str) -> int:
        """The id behind a version's id or alias, the default's for none."""
        if not version:
            return int(self._row(model)["default_version"])
        if version.isdecimal():
            # Ids are small; SQLite's integers are not endless.
            return int(version[:18])
        for candidate in self._versions(model):
            if version in candidate.version_aliases:
                return int(candidate.version_id)
        raise NotFound(f"The Model version `{model}@{version}` does not exist.")

    def _version(self, model: str, version_id: int) -> Model:
        rows = self._database.query(
            "SELECT message FROM model_versions WHERE model = ? AND version = ?", (model, version_id)
        )
        if not rows:
            raise NotFound(f"The Model version `{model}@{version_id}` does not exist.")
        return Model.FromString(rows[0]["message"])

    def _versions(self, model: str) -> list[Model]:
        rows = self._database.query(
            "SELECT message FROM model_versions WHERE model = ? ORDER BY version DESC", (model,)
        )
        return [Model.FromString(row["message"]) for row in rows]

    def _store_version(self, model: str, version: Model, *, stamped: bool = True) -> None:
        if stamped:
            stamp(version.version_update_time, self._clock.now())
            version.etag = new_etag()
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE model_versions SET message = ? WHERE model = ? AND version = ?",
                (version.SerializeToString(), model, int(version.version_id)),
            )

    def _give_aliases(self, model: str, version_id: int, aliases: Sequence[str]) -> None:
        """Let one version hold these; an alias that another one holds moves."""
        if not aliases:
            return
        for version in self._versions(model):
            changed = [alias for alias in version.version_aliases if alias not in aliases]
            if int(version.version_id) == version_id:
                changed = list(dict.fromkeys([*version.version_aliases, *aliases]))
            if changed != list(version.version_aliases):
                version.ClearField("version_aliases")
                version.version_aliases.extend(changed)
                self._store_version(model, version)
        if resources.DEFAULT_ALIAS in aliases:
            with self._database.transaction() as connection:
                connection.execute("UPDATE models SET default_version = ? WHERE name = ?", (version_id, model))

    def _touch_model(self, model: str) -> None:
        """Note that something happened to one of its versions."""
        with self._database.transaction() as connection:
            shared = Model.FromString(self._row(model)["message"])
            stamp(shared.update_time, self._clock.now())
            connection.execute("UPDATE models SET message = ? WHERE name = ?", (shared.SerializeToString(), model))
