"""Resource Manager: cloudresourcemanager.googleapis.com, v1 (JSON alone) and v3."""

from emulator.services.cloudresourcemanager.projects import ProjectsService
from emulator.services.cloudresourcemanager.projects_v1 import ProjectsV1

SERVICES = (ProjectsService, ProjectsV1)

__all__ = ["SERVICES", "ProjectsService", "ProjectsV1"]
