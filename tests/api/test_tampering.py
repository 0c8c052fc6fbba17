"""Contract, sections 0 and 3: submissions that somebody has laid hands on."""

import json
import secrets
from collections.abc import AsyncIterator

import nats.js.errors
import pytest

from tests.api.bus import Publisher, publisher
from tests.api.client import Api, Json, new_queue, shell, shell_job
from tests.support.waiting import until

ALERT = "POSSIBLE SECURITY/INTERCEPTION ALERT!!!"
UNWRAP = (
    f"Request failed to unwrap the token to retrieve the SecretID - {ALERT}: THIS REQUEST MAY HAVE BEEN TAMPERED WITH"
)


@pytest.fixture
async def bus(api: Api) -> AsyncIterator[Publisher]:
    async with publisher(api) as found:
        yield found


def nothing_ran(ended: Json, status: str, reason: str) -> str:
    shown = (ended["status"], ended["reason"], ended["return_code"], ended["container_id"], ended["stdout"])
    assert shown == (status, reason, 0, "", "")
    assert ended["output"] == ended["error"]
    return str(ended["error"])


async def test_a_wrapping_token_that_is_spent_or_that_nobody_made(api: Api) -> None:
    spent, used = await api.vault.wrapped(), await api.vault.wrapped()
    await api.vault.unwrap(spent)
    assert (await api.run(wrap_secret_id=used))["status"] == "success"
    for wrapped in (spent, used, "hvs.x"):
        assert nothing_ran(await api.run(wrap_secret_id=wrapped), "notauthorised", "secrets").startswith(UNWRAP)


async def test_a_wrapping_token_of_another_role_is_left_unspent(api: Api) -> None:
    vault = api.vault
    await vault.call(vault.admin, "POST", "auth/approle/role/suite-other", {"token_policies": "default"})
    wrapped = await vault.wrapped(role="suite-other")
    assert ALERT in nothing_ran(await api.run(wrap_secret_id=wrapped), "notauthorised", "secrets")
    assert "secret_id" in (await vault.unwrap(wrapped))["data"]


async def test_a_wrapping_token_around_something_else(api: Api) -> None:
    vault = api.vault
    answer = await vault.call(
        vault.admin, "POST", "sys/wrapping/wrap", {"secret_id": "forged"}, headers={"X-Vault-Wrap-TTL": "60"}
    )
    wrapped = answer["wrap_info"]["token"]
    assert ALERT in nothing_ran(await api.run(wrap_secret_id=wrapped), "notauthorised", "secrets")


async def test_a_wrapping_token_that_expired_in_the_queue_says_so(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname):
        wrapped = await api.vault.wrapped(ttl="1s")
        job_id = await api.submit(qname=qname, wrap_secret_id=wrapped)
        await until(lambda: _exists(api, wrapped), lambda found: not found, seconds=10)
    error = nothing_ran(await api.ended(job_id), "notauthorised", "secrets")
    assert "expired" in error
    assert ALERT not in error


async def _exists(api: Api, wrapped: str) -> bool:
    return (await api.vault.http.post("/v1/sys/wrapping/lookup", json={"token": wrapped})).is_success


async def test_a_role_that_refuses_the_login(api: Api) -> None:
    """The secret id was destroyed between wrapping and run."""
    vault, path = api.vault, f"auth/approle/role/{api.vault.role}/secret-id"

    async def accessors() -> set[str]:
        return {*(await vault.call(vault.admin, "LIST", path))["data"]["keys"]}

    await vault.wrapped()  # of none there would be no list
    before, wrapped = await accessors(), await vault.wrapped()
    found = await vault.call(vault.admin, "POST", "sys/wrapping/lookup", {"token": wrapped})
    assert found["data"]["creation_path"].endswith("/secret-id")
    (accessor,) = await accessors() - before
    await vault.call(vault.admin, "POST", f"{path}-accessor/destroy", {"secret_id_accessor": accessor})
    error = nothing_ran(await api.run(wrap_secret_id=wrapped), "notauthorised", "secrets")
    assert error.startswith("Request failed AppRole authentication with vault: ")


async def test_a_payload_that_names_another_queue(api: Api) -> None:
    error = nothing_ran(await api.run_sealed(shell_job(qname="theirs"), qname="Mine"), "failed", "payload")
    assert error == "payload qname and job request qname do not match: 'theirs' != 'mine'"


async def test_a_payload_under_another_key(api: Api) -> None:
    await api.vault.call(api.vault.admin, "POST", "transit/keys/suite-other")
    sealed = await api.vault.encrypt(json.dumps(shell_job()).encode(), key="suite-other")
    ended = await api.ended(await api.taken(await api.envelope(payload=sealed)))
    assert nothing_ran(ended, "failed", "payload").startswith("Failed to decrypt payload via vault: ")


async def test_a_payload_that_says_nothing(api: Api) -> None:
    for plain in (b"", b"nonsense", b"[]", b'{"run": "text"}', b"\xff\xfe", b'{"tty": 1}'):
        body = await api.envelope(payload=await api.vault.encrypt(plain))
        error = nothing_ran(await api.ended(await api.taken(body)), "failed", "payload")
        assert error.startswith("Failed unmarshaling json from payload: ")


async def test_a_payload_that_was_swapped_on_the_bus(api: Api, bus: Publisher) -> None:
    theirs = shell_job("echo theirs")
    wrapped = await api.vault.wrapped()
    forged = await api.vault.sealed({**theirs, "run": shell("echo forged; cat /secrets.yml")})
    ended = await api.ended(await bus.publish(theirs, stored=forged, wrapped=wrapped))
    assert ALERT in nothing_ran(ended, "failed", "payload")
    assert "secret_id" in (await api.vault.unwrap(wrapped))["data"], "nothing was spent on it"


async def test_a_ticket_of_another_queue_or_job_and_a_wrapping_token_in_its_place(api: Api, bus: Publisher) -> None:
    body, job_id = shell_job(), secrets.token_hex(12)
    fields = {"wrap_secret_id": await api.vault.wrapped(), "payload_sha256": "0" * 64}
    tickets = [await bus.ticket(qname, job_id, **fields) for qname in (new_queue(), body["qname"])]
    for ticket in (*tickets, await api.vault.wrapped()):
        nothing_ran(await api.ended(await bus.publish(body, ticket=ticket)), "failed", "rejected")


async def test_junk_on_the_bus_is_rejected_and_its_queue_goes_on(api: Api, bus: Publisher) -> None:
    qname = new_queue()
    for fact in (b"", b"junk", b"{}", b'{"type": "submitted"}', b"\xff", b'{"type": "ended"}'):
        job_id = secrets.token_hex(12)
        await bus.submitted(qname, job_id, fact)
        nothing_ran(await api.ended(job_id), "failed", "rejected")
    assert (await api.run(qname=qname))["status"] == "success"


async def test_a_direct_publishers_job_runs_and_its_fact_is_written_once(api: Api, bus: Publisher) -> None:
    ended = await api.ended(await bus.publish(body := shell_job("echo published")))
    assert (ended["status"], ended["output"]) == ("success", "published\n")
    with pytest.raises(nats.js.errors.ServiceUnavailableError, match="10077"):
        await bus.submitted(body["qname"], ended["_id"], b"{}")
    assert await api.get(ended["_id"]) == ended
