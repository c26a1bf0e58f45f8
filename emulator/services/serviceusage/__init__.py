"""Service Usage: serviceusage.googleapis.com."""

from emulator.services.serviceusage.operations import UsageOperations
from emulator.services.serviceusage.services import Services
from emulator.services.serviceusage.state import UsageState

SERVICES = (Services, UsageOperations)

__all__ = ["SERVICES", "Services", "UsageOperations", "UsageState"]
