"""OAuth: the token endpoint and its neighbours on oauth2.googleapis.com, accounts.google.com and others."""

from emulator.services.oauth2.token_endpoint import TokenEndpoint
from emulator.services.oauth2.token_facts import TokenFacts

PLAIN_SERVICES = (TokenEndpoint, TokenFacts)

__all__ = ["PLAIN_SERVICES", "TokenEndpoint", "TokenFacts"]
