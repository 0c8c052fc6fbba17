"""Everything that talks to Vault. Only this package uses hvac; who may do what is decided by Vault's policies."""

from stint.vault.answers import Caller, Login, SecretData
from stint.vault.client import Vault
from stint.vault.hvac_adapter import check_path, error_text
from stint.vault.oidc import Oidc, OidcBegun, refusal_by_provider
from stint.vault.policies import SESSION_KEY, queue_path
from stint.vault.session import AppRoleSession
from stint.vault.ticket import BUS_KEY, Ticket, open_ticket, seal_ticket
from stint.vault.transit import RECEIPT_KEY, Encryptor, Signer

__all__ = [
    "BUS_KEY",
    "RECEIPT_KEY",
    "SESSION_KEY",
    "AppRoleSession",
    "Caller",
    "Encryptor",
    "Login",
    "Oidc",
    "OidcBegun",
    "SecretData",
    "Signer",
    "Ticket",
    "Vault",
    "check_path",
    "error_text",
    "open_ticket",
    "queue_path",
    "refusal_by_provider",
    "seal_ticket",
]
