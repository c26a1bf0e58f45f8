"""How one emulator is run: where its state lives, its port, its sandbox level, what it lets out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SandboxLevel = Literal["full", "none"]


@dataclass(frozen=True)
class StandIn:
    """What runs in place of an image that is no prebuilt one: an environment of the emulator's, or a Python."""

    environment: str = ""
    """one that emulator/runners/images.toml describes, such as `sklearn-cpu.1-6`"""
    python: str = ""
    """path of the interpreter of a virtual environment that holds what the image holds"""
    entrypoint: tuple[str, ...] = ()
    """the image's own command, for containers that name none"""
    folder: str = ""
    """absolute path of what the image holds at its working directory, which is /app here"""
    env: Mapping[str, str] = field(default_factory=dict)
    """the image's own variables"""


@dataclass(frozen=True)
class Settings:
    """Given on the command line of `python -m emulator serve`; `inv emulator.up` takes them from the config."""

    state: Path
    """folder of everything that the emulator keeps"""
    port: int = 0
    """0 picks a free one"""
    host: str = "127.0.0.1"
    project: str = "selfloop-local"
    """id of the project that `emulator.env` names"""
    location: str = "us-central1"
    sandbox: SandboxLevel | None = None
    """None takes the best that the machine allows; a level that it does not allow is refused at start"""
    egress: tuple[str, ...] = ("package-index",)
    """hosts that CONNECT may tunnel to; `package-index` stands for those of the package index in force"""
    images: Literal["nearest", "exact"] = "nearest"
    """whether a library version near that of a prebuilt image will do"""
    image_table: Mapping[str, StandIn] = field(default_factory=dict)
    """URI of an image -> what stands in for it; a URI without a tag means all tags"""

    @property
    def database(self) -> Path:
        return self.state / "emulator.db"

    @property
    def objects(self) -> Path:
        """Cloud Storage's files; `<objects>/tree/<bucket>/<name>` is what /gcs shows."""
        return self.state / "objects"

    @property
    def jobs(self) -> Path:
        """Scratch of what runs, one folder a container."""
        return self.state / "jobs"

    @property
    def models(self) -> Path:
        """The service's own copies of uploaded models' artifacts."""
        return self.state / "models"

    @property
    def servers(self) -> Path:
        """Sockets of model servers, one folder a server."""
        return self.state / "servers"


def parse_image_table(text: str) -> dict[str, StandIn]:
    """`{"gcr.io/p/trainer": {"environment": "sklearn-cpu.1-6"}}`. Raises ValueError with a sentence."""
    given = json.loads(text)
    if not isinstance(given, dict):
        raise ValueError("the image table is no JSON object")
    table = {}
    for image, entry in given.items():
        try:
            found = StandIn(**{**entry, "entrypoint": tuple(entry.get("entrypoint", ()))})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"the entry of {image} in the image table cannot be understood: {error}") from None
        if bool(found.environment) == bool(found.python):
            raise ValueError(f"the entry of {image} in the image table needs one of environment and python")
        table[image] = found
    return table
