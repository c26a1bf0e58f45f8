"""What every API mixes in: operations, locations and IAM policies, served once for all."""

from emulator.services.mixins.iam_policy import IamPolicyService
from emulator.services.mixins.locations import LocationsService
from emulator.services.mixins.operations import OperationsService

SERVICES = (OperationsService, LocationsService, IamPolicyService)

__all__ = ["SERVICES", "IamPolicyService", "LocationsService", "OperationsService"]
