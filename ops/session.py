"""What most tasks begin with: a configuration, the connection to its world, and clients."""

from __future__ import annotations

from dataclasses import dataclass

from ops import worlds
from ops.clients import Clients
from ops.config import Config, load_config


@dataclass(frozen=True)
class Session:
    """A connected environment."""

    config: Config
    clients: Clients
    emulated: bool

    def announce(self) -> None:
        """Say which project of which world is about to be changed."""
        worlds.announce(self.config, emulated=self.emulated)

    def ask(self, question: str, *, yes: bool) -> None:
        """Ask before a change where the configuration says so."""
        worlds.confirm(self.config, question, yes=yes, emulated=self.emulated)


def open_session(environment: str, *, emulated: bool = False) -> Session:
    """The environment, connected; raises OpsError when its world cannot be reached as it should be."""
    config = load_config(environment)
    worlds.connect(config, emulated=emulated)
    return Session(config, Clients(config), emulated)
