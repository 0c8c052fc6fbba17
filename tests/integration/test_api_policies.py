"""Who may do what: Vault's policies say, unless somebody asked for the opposite. Who did it, and what tokens cost."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from urllib.parse import urlsplit

import httpx
import pytest

from stint.core.events import Deleted, Ended, KillRequested, Submitted
from stint.vault import Vault
from stint.vault.actions import READ, SUBMIT
from stint_api.__main__ import LOOKUPS
from stint_api.auth import CACHE_SECONDS, Authenticator, Lookups
from stint_api.errors import RefusalError
from stint_api.read.job.live import fact
from tests.support.api_bench import BODY, Api, ApiProcess, Bench, api, secret, submitted
from tests.support.relay import Relay
from tests.support.servers import BaoProcess, NatsProcess, OpenBao
from tests.support.vault_bench import ROLE
from tests.support.waiting import until_true

ACTIONS = {
    "submit": ("POST", ""),
    "read": ("GET", "/{}"),
    "output": ("GET", "/{}/output"),
    "release": ("POST", "/{}/release"),
    "kill": ("POST", "/kill/{}"),
    "events": ("GET", "/{}/events"),
    "delete": ("DELETE", "/{}"),
}
"""In an order in which all can be done to a queued job."""
ALLOWED = dict.fromkeys(ACTIONS, 200)
FORBIDDEN = dict.fromkeys(ACTIONS, 403)


async def statuses(bench: Bench, token: str) -> dict[str, int]:
    """What somebody with this token is answered who does all of them to another's job."""
    job_id = await bench.submitted()
    async with bench.client({"X-Auth-Token": token}) as http:
        asked = {
            name: await http.request(method, f"/v1/api/job{path.format(job_id)}", json=BODY)
            for name, (method, path) in ACTIONS.items()
        }
    return {name: answer.status_code for name, answer in asked.items()}


async def test_a_client_may_do_all_but_release_and_a_sealer_and_a_jobs_own_token_nothing(bench: Bench) -> None:
    client, sealer = [await bench.limited_token(0, (policy,)) for policy in ("stint-client", "stint-sealer")]
    assert await statuses(bench, client) == {**ALLOWED, "release": 403}
    for token in (sealer, await bench.logged_in(ROLE)):
        assert await statuses(bench, token) == FORBIDDEN


async def test_an_operator_may_read_and_release_and_nothing_else(bench: Bench) -> None:
    job_id = await bench.submitted()
    async with bench.client({"X-Auth-Token": await bench.limited_token(0, ("stint-operator",))}) as http:
        found = {
            name: (await http.request(method, f"/v1/api/job{path.format(job_id)}", json=BODY)).status_code
            for name, (method, path) in ACTIONS.items()
            if name != "events"  # which would not end
        }
    assert found == {"submit": 403, "read": 200, "output": 200, "release": 400, "kill": 403, "delete": 403}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"STINT_AUTHZ": "any"}, {**ALLOWED, "release": 400}),
        ({"STINT_COMPAT": "gostint"}, {**ALLOWED, "release": 400}),
        ({"STINT_AUTHZ": "vault", "STINT_COMPAT": "gostint"}, FORBIDDEN),
    ],
)
async def test_any_token_may_do_everything_only_where_that_is_asked_for(
    nats: NatsProcess, openbao: OpenBao, settings: dict[str, str], expected: dict[str, int]
) -> None:
    """It cannot release a job that is not held."""
    async with api(nats.url, openbao, **settings) as bench:
        assert await statuses(bench, await bench.limited_token(0)) == expected


async def test_a_policy_on_a_queue_gives_nothing_in_one_that_vault_takes_for_it(bench: Bench) -> None:
    token = await bench.token_with('path "stint/queue/deploys" { capabilities = ["create"] }')
    async with bench.client({"X-Auth-Token": token}) as http:
        for name, code in {"deploys": 200, "DEPLOYS": 200, "deploys/": 403, " deploys": 403}.items():
            assert (await http.post("/v1/api/job", json={**BODY, "qname": name})).status_code == code, name
        answer = await http.post("/v1/api/job", json={**BODY, "qname": "deploys "})
        assert answer.status_code == 403
        path = answer.json()["error"].split('"')[3]
        assert path.startswith("stint/queue/=")
    token = await bench.token_with(f'path "{path}" {{ capabilities = ["create"] }}')
    async with bench.client({"X-Auth-Token": token}) as http:
        assert (await http.post("/v1/api/job", json={**BODY, "qname": "deploys "})).status_code == 200


async def test_a_policy_says_which_runner_may_be_drained(bench: Bench) -> None:
    """None is alive here, which is said only to those who may."""
    token = await bench.token_with('path "stint/drain/runner-1" { capabilities = ["update"] }')
    async with bench.client({"X-Auth-Token": token}) as http:
        answers = [await http.post(f"/v1/api/runner/runner-{number}/drain") for number in (1, 2)]
    assert [answer.status_code for answer in answers] == [404, 403]
    missing = 'it lacks the capability "update" on "stint/drain/runner-2".'
    assert answers[1].json()["error"] == f"The token may not drain this runner: {missing}"


async def test_the_last_use_of_a_token_is_refused_in_words(bench: Bench) -> None:
    rule = 'path "stint/queue/*" { capabilities = ["create", "read"] }'
    token = await bench.token_with(rule, uses=2)
    async with bench.client({"X-Auth-Token": token}) as http:
        assert (await http.post("/v1/api/job", json={**BODY, "qname": "limited"})).status_code == 200
        answer = await http.post("/v1/api/job", json={**BODY, "qname": "limited"})
    assert (answer.status_code, "its last use" in answer.json()["error"]) == (403, True)


async def test_any_number_of_queues_can_be_asked_about(bench: Bench) -> None:
    """Vault refuses a question about some thousand paths."""
    token = await bench.token_with('path "stint/queue/many 7" { capabilities = ["read"] }')
    parts = bench.parts
    auth = Authenticator(Lookups(parts.vault, monotonic=time.monotonic), parts.vault, parts.session, by_policy=True)
    identity = await auth.identify(token)
    names = [f"many {number}" for number in range(1500)]
    assert set(await auth.permitted(identity, READ, names)) == {"many 7"}


@pytest.mark.parametrize("by_policy", [True, False])
async def test_a_check_of_what_was_begun_costs_no_use_and_finds_that_policy_or_token_is_gone(
    bench: Bench, by_policy: bool
) -> None:
    """As every few seconds of each stream."""
    parts, name = bench.parts, secret()
    lookups = Lookups(parts.vault, monotonic=time.monotonic)
    auth = Authenticator(lookups, parts.vault, parts.session, by_policy=by_policy)
    rule = 'path "stint/queue/mine" { capabilities = ["read"] }'
    callers = [await auth.identify(await bench.token_with(rule, uses=uses, name=name)) for uses in (0, 3)]
    refused = pytest.raises(RefusalError)
    for caller in callers * 4:
        await auth.check_again(caller, READ, "mine")
    await bench.admin(lambda client: client.sys.delete_policy(name))
    for caller in callers:
        with refused if by_policy else nullcontext():
            await auth.check_again(caller, READ, "mine")
        await bench.admin(lambda client, token=caller.token: client.auth.token.revoke(token))
        with refused:
            await auth.check_again(caller, READ, "mine")


class NotingVault(Vault):
    """A Vault that notes which paths it is asked about."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.asked = list[list[str]]()

    async def capabilities(self, token: str, of: str, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        self.asked.append([*paths])
        return await super().capabilities(token, of, paths)


async def test_requests_at_one_time_share_a_question_and_each_gets_its_answer(bench: Bench, openbao: OpenBao) -> None:
    token = await bench.token_with('path "stint/queue/some*" { capabilities = ["create"] }', name="some-of-many")
    other = await bench.limited_token(0)
    vault, parts = NotingVault(openbao.address), bench.parts
    lookups = Lookups(vault, monotonic=time.monotonic)
    auth = Authenticator(lookups, vault, parts.session, by_policy=True)
    mine, theirs = await auth.identify(token), await auth.identify(other)
    asked = [(mine, f"some {n}") for n in range(5)] + [(mine, "some 1"), (mine, "none"), (theirs, "some 1")]
    ends = await asyncio.gather(*(auth.require(who, SUBMIT, qname) for who, qname in asked), return_exceptions=True)
    assert [type(end) for end in ends] == [type(None)] * 6 + [RefusalError] * 2
    assert sorted(map(len, vault.asked)) == [1, 1, 5], "the first of each token at once, the others with the next call"
    await bench.admin(lambda client: client.sys.delete_policy("some-of-many"))
    with pytest.raises(RefusalError):
        await auth.require(mine, SUBMIT, "some 1")


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"STINT_COMPAT": "gostint"}


async def test_facts_tell_apart_who_has_the_same_display_name(bench: Bench) -> None:
    found = []
    for _ in range(2):
        token = await bench.logged_in(await bench.role_with("stint-client"))
        caller = await bench.vault.lookup_self(token)
        async with bench.client({"X-Auth-Token": token}) as http:
            job_id = await submitted(http)
            await http.post(f"/v1/api/job/kill/{job_id}")
            await http.delete(f"/v1/api/job/{job_id}")
        job = await bench.load(job_id)
        facts = [job.fact(shape) for shape in (Submitted, KillRequested, Ended, Deleted)]
        wanted = ("approle", caller.entity_id, caller.accessor)
        assert [(one.by, one.by_entity, one.by_accessor) for one in facts if one] == [wanted] * 4
        shown = fact(job.facts[Submitted.kind], job.state)
        assert (shown["by"], shown["by_entity"], shown["by_accessor"]) == wanted
        found.append((caller.entity_id, caller.accessor))
    assert all(found[0])
    assert len({*found[0], *found[1]}) == 4


async def lines_up_to_the_submission(process: ApiProcess) -> int:
    """A line is written when the answer is through, which may be after the client has it.

    Before this one stand those of the probes that failed while the API started.
    """
    await until_true(lambda: any(line["method"] == "POST" for line in process.said("request")))
    return next(number for number, line in enumerate(process.said("request"), 1) if line["method"] == "POST")


async def test_each_request_is_one_line_without_what_a_client_wrote(own: Api, openbao: OpenBao) -> None:
    process, http = own
    token = http.headers["X-Auth-Token"]
    accessor = (await Vault(openbao.address).call(token, lambda c: c.auth.token.lookup_self()))["data"]["accessor"]
    hidden = [token, secret(), secret(), secret()]
    job_id = await submitted(http)
    before = await lines_up_to_the_submission(process)
    await http.get(f"/v1/api/job/{job_id}", params={"x": hidden[1]})
    await http.get("/v1/api/job", headers={"X-Auth-Token": hidden[2]})
    await http.get(f"/{hidden[3]}")
    await http.get("/v1/api/health/")
    await http.get("/healthz")
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as stranger:
        await stranger.get("/v1/api/health")
    await until_true(lambda: len(process.said("request")) >= before + 5)
    found = process.said("request")[before:]
    shown = [(line["method"], line["route"], line["status"], line["who"]) for line in found]
    assert shown == [
        ("GET", "/v1/api/job/{job_id}", 200, "token-stint-client"),
        ("GET", "/v1/api/job", 403, ""),
        ("GET", "unknown", 404, ""),
        ("GET", "unknown", 301, ""),
        ("GET", "/v1/api/health", 200, ""),
    ]
    assert (found[0]["accessor"], found[0]["entity"]) == (accessor, "")
    assert all(line["ms"] >= 0 for line in found)
    assert [text for text in hidden if text in process.log] == []


BOGUS = "bogus-token"


class Tarpit(Relay):
    """In front of Vault: a request with a bogus token is never answered, any other one goes on to it."""

    def __init__(self, address: str) -> None:
        super().__init__(urlsplit(address).port or 0)
        self._held = 0
        self.full = asyncio.Event()

    async def sent(self, data: bytes) -> bytes:
        if BOGUS.encode() in data:
            self._held += 1
            if self._held >= LOOKUPS:
                self.full.set()
            await asyncio.Event().wait()
        return data


async def test_nobody_is_told_where_the_services_reach_vault(nats: NatsProcess, bao_process: BaoProcess) -> None:
    async with api(nats.url, bao_process) as bench:
        shown = (await bench.limited_token(0), BOGUS, "", "no token")
        answers = [await bench.http.get("/v1/api/job/x", headers={"X-Auth-Token": token}) for token in shown]
        spent = {"cubby_token": BOGUS, "cubby_path": "cubbyhole/job", "payload": ""}
        answers.append(await bench.submit(**spent))
        await bao_process.kill()
        bench.clock.advance(CACHE_SECONDS + 1)
        answers += [await bench.http.get("/v1/api/job/x"), await bench.http.get("/readyz")]
    assert [answer.status_code for answer in answers] == [400, 403, 403, 403, 500, 503, 503]
    assert [answer.text for answer in answers if "://" in answer.text or str(bao_process.port) in answer.text] == []


async def test_while_bogus_tokens_wait_for_vault_others_go_on(nats: NatsProcess, openbao: OpenBao) -> None:
    async with AsyncExitStack() as stack:
        tarpit = Tarpit(openbao.address)
        port = await stack.enter_async_context(tarpit.listening())
        slow = OpenBao(f"http://127.0.0.1:{port}", openbao.root_token)
        bench = await stack.enter_async_context(api(nats.url, slow))
        await bench.submitted()
        asking = [asyncio.create_task(bench.status_with(f"{BOGUS}-{number}")) for number in range(100)]
        stack.callback(lambda: [task.cancel() for task in asking])
        await tarpit.full.wait()
        async with asyncio.timeout(5):
            job_id = await bench.submitted()
            assert (await bench.http.get(f"/v1/api/job/{job_id}")).status_code == 200
            assert (await bench.http.get("/readyz")).status_code == 200
