"""IAM Service Account Credentials: iamcredentials.googleapis.com."""

from emulator.services.iamcredentials.service_accounts import ServiceAccounts

SERVICES = (ServiceAccounts,)

__all__ = ["SERVICES", "ServiceAccounts"]
