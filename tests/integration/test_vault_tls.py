"""Vault behind TLS: whom a `Vault` trusts, and the certificate that it shows."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stint.core.errors import ConfigError, VaultUnavailableError
from stint.vault import Vault, connections
from tests.integration.test_vault_outage import Script, answer


@asynccontextmanager
async def encrypted(certificates: Path, verify: ssl.VerifyMode = ssl.CERT_NONE) -> AsyncIterator[str]:
    """The address of a healthy server, which wants a client certificate if `verify` says so."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
    context.verify_mode = verify
    script = Script([answer(200, '{"initialized": true, "sealed": false}')])
    async with await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_only_the_given_bundle_makes_a_server_trusted(certificates: Path) -> None:
    async with encrypted(certificates) as address:
        async with Vault(address, cacert=str(certificates / "ca.pem")) as vault:
            assert await vault.health()
            assert await vault.health()
        with pytest.raises(VaultUnavailableError, match="CertificateError"):
            await Vault(address).lookup_self("s.token")
    with pytest.raises(ConfigError, match="VAULT_CACERT"):
        Vault("https://127.0.0.1:8200", cacert=str(certificates / "ca-key.pem"))


async def test_the_certificate_of_vaults_settings_is_shown(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = str(certificates / "ca.pem")
    async with encrypted(certificates, ssl.CERT_REQUIRED) as address:
        assert not await Vault(address, cacert=bundle).health()
        monkeypatch.setattr(connections, "VAULT_CLIENT_CERT", str(certificates / "cert.pem"))
        monkeypatch.setattr(connections, "VAULT_CLIENT_KEY", str(certificates / "key.pem"))
        assert await Vault(address, cacert=bundle).health()
