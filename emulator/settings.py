"""How one emulator is run: where its state lives, its port, its sandbox level, what it lets out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SandboxLevel = Literal["full", "none"]


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
