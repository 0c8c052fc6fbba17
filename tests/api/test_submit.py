"""Contract, section 2, submit: the three modes, and what counts of a request."""

import asyncio
import json

from tests.api.client import BUSYBOX, ID, JOB, NEVER, Api, Json, new_queue, refused, shell, shell_job
from tests.support.waiting import until


async def cubbyhole(api: Api, payload: Json) -> Json:
    """A request whose payload waits in a cubbyhole."""
    courier = await api.vault.courier({"payload": await api.vault.sealed(payload)})
    return await api.envelope(qname=payload["qname"], cubby_token=courier, cubby_path="cubbyhole/job")


async def test_the_answer_to_each_mode(api: Api) -> None:
    name = f"MiXeD-{new_queue()}"
    bodies = [await api.plain("echo ran", qname=name), await api.sealed(shell_job("echo ran", qname=name))]
    for body in (*bodies, await cubbyhole(api, shell_job("echo ran", qname=name))):
        answer = await api.post(body)
        assert answer.status_code == 200
        submitted = answer.json()
        assert set(submitted) == {"_id", "status", "qname"}
        assert ID.fullmatch(submitted["_id"])
        assert (submitted["status"], submitted["qname"]) == ("queued", name.lower())
        ended = await api.ended(submitted["_id"])
        assert (ended["status"], ended["output"]) == ("success", "ran\n")


async def test_the_clients_dance(api: Api) -> None:
    """Section 4, as GoStint's client does it: a token of its own, everything sealed, then asking until the end."""
    async with api.anonymous(**{"X-Auth-Token": await api.vault.another_client()}) as http:
        payload = shell_job("echo danced", image_pull_policy="IfNotPresent", secret_file_type="yaml")
        job_id = (await http.post(JOB, json=await cubbyhole(api, payload))).json()["_id"]
        answer = await until(
            lambda: http.get(f"{JOB}/{job_id}"), lambda answer: answer.json()["status"] not in {"queued", "running"}
        )
    seen = answer.json()
    assert (seen["status"], seen["return_code"], seen["output"]) == ("success", 0, "danced\n")


async def test_the_cubbyhole_is_read_during_the_request(api: Api) -> None:
    body = await cubbyhole(api, shell_job("echo from the cubbyhole"))
    job_id = await api.taken(body)
    async with api.anonymous(**{"X-Auth-Token": body["cubby_token"]}) as http:
        refused(await http.get(JOB), 403, "Permission Denied.")
    assert (await api.ended(job_id))["output"] == "from the cubbyhole\n"


async def test_half_a_cubbyhole_is_skipped_silently(api: Api) -> None:
    halves = {"cubby_token": "junk"}, {"cubby_path": "cubbyhole/job"}, {"cubby_token": "", "cubby_path": "x"}
    for job in await asyncio.gather(*(api.run("echo simple", **half) for half in halves)):
        assert job["output"] == "simple\n"


async def test_an_absent_qname_is_the_queue_without_a_name(api: Api) -> None:
    body = await api.plain()
    del body["qname"]
    answer = await api.post(body)
    assert answer.json()["qname"] == ""
    ended = await api.ended(answer.json()["_id"])
    assert (ended["qname"], ended["status"]) == ("", "success")
    sealed = await api.run_sealed({"container_image": BUSYBOX, "run": shell("true")})
    assert sealed["status"] == "success"


async def test_field_names_match_without_regard_to_case(api: Api) -> None:
    body = await api.plain("echo shouted $A", env_vars=["A=1"])
    answer = await api.post({name.upper(): value for name, value in body.items()})
    assert answer.json()["qname"] == body["qname"]
    assert (await api.ended(answer.json()["_id"]))["output"] == "shouted 1\n"
    payload = {name.title(): value for name, value in shell_job("echo titled").items()}
    sealed = await api.envelope(qname=payload["Qname"], payload=await api.vault.sealed(payload))
    assert (await api.ended(await api.taken(sealed)))["output"] == "titled\n"


async def test_text_after_the_json_white_space_before_and_nulls_inside_are_ignored(api: Api) -> None:
    for after in (" and more", '{"qname": "x"}', "\n\n}", "\0"):
        body = await api.plain(container_image="")
        answer = await api.post(json.dumps(body).encode() + after.encode())
        assert (answer.status_code, answer.json()["qname"]) == (200, body["qname"])
    body = {**await api.plain("echo ok"), "env_vars": None, "tty": None, "content": None, "cubby_token": None}
    job_id = await api.taken(b" \r\n\t" + json.dumps(body).encode())
    assert (await api.ended(job_id))["output"] == "ok\n"


async def test_nothing_but_documented_fields_count(api: Api) -> None:
    mine: Json = {"_id": "f" * 24, "status": "success", "node_uuid": "me", "return_code": 42, "kill_requested": True}
    mine |= dict.fromkeys(("submitted", "started", "ended"), "2001-01-01T00:00:00Z")
    mine |= dict.fromkeys(("output", "stderr", "container_id", "reason", "error", "submitted_by"), "forged")
    qname = new_queue()
    async with api.busy(qname):
        job_id = await api.submit("echo real", qname=qname, **mine)
        waiting = await api.get(job_id)
    assert job_id != mine["_id"]
    assert (waiting["status"], waiting["started"], waiting["ended"]) == ("queued", NEVER, NEVER)
    ended = await api.ended(job_id)
    assert not [name for name, value in mine.items() if ended[name] == value and name != "status"]
    assert (ended["output"], ended["kill_requested"]) == ("real\n", False)


async def test_beside_a_payload_the_requests_job_fields_are_ignored(api: Api) -> None:
    """Whoever carries the request must not run his code with the requestor's secrets."""
    payload = shell_job("echo theirs; env; cat /secrets.yml")
    extra = {"run": shell("echo mine"), "entrypoint": ["echo"], "env_vars": ["MINE=1"], "tty": True, "content": "junk"}
    ended = await api.run_sealed(payload, **extra, secret_refs=["X@kv/data/none.x"])
    assert (ended["status"], ended["tty"]) == ("success", False)
    assert ended["output"].startswith("theirs\n")
    assert "MINE" not in ended["output"]
    imageless = {name: value for name, value in shell_job("true").items() if name != "container_image"}
    ended = await api.run_sealed(imageless, container_image=BUSYBOX)
    assert (ended["status"], ended["output"]) == ("failed", "ContainerImage is empty")


async def test_the_wrapping_token_is_not_looked_at_until_the_job_runs(api: Api) -> None:
    qname = new_queue()
    async with api.busy(qname):
        job_id = await api.submit(qname=qname, wrap_secret_id="nonsense")
        assert await api.status(job_id) == "queued"
    assert (await api.ended(job_id))["status"] == "notauthorised"


async def test_what_was_submitted_is_there_at_once(api: Api) -> None:
    for body in [await api.plain(qname="right-after", container_image="") for _ in range(10)]:
        job_id = await api.taken(body)
        assert (await api.get(job_id))["_id"] == job_id
