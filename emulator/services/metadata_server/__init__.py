"""The metadata server of Compute Engine, which tells a machine (here: a job, or the user's shell) who it is."""

from emulator.services.metadata_server.metadata import MetadataServer

PLAIN_SERVICES = (MetadataServer,)

__all__ = ["PLAIN_SERVICES", "MetadataServer"]
