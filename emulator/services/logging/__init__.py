"""Cloud Logging: logging.googleapis.com."""

from emulator.services.logging.logging_service import LoggingService
from emulator.services.logging.store import LogStore

SERVICES = (LoggingService,)

__all__ = ["SERVICES", "LogStore", "LoggingService"]
