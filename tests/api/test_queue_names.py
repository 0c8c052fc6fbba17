"""Contract, section 0: a queue's name can be almost any text, and is compared lower-cased."""

import asyncio

from tests.api.client import Api, new_queue

NAMES = ["a.b.c", "with space", " ", "*", ">", "a/b?c#d%e", "$sys", "_", "_bad", 'quote"back\\slash']
NAMES += ["\u00fcml\u00e4ut", "\u4e2d\u6587", "\U0001f680", "e\u0301", "x" * 1000, "\u00e9" * 500]


async def test_any_name_is_kept_and_its_jobs_run(api: Api) -> None:
    async def runs(qname: str) -> None:
        answer = await api.post(await api.plain("echo there", qname=qname))
        assert (answer.status_code, answer.json()["qname"]) == (200, qname)
        ended = await api.ended(answer.json()["_id"])
        assert (ended["qname"], ended["output"]) == (qname, "there\n")
        await api.appears(ended["_id"], qname=qname)

    await asyncio.gather(*map(runs, NAMES))


async def test_names_are_compared_lower_cased(api: Api) -> None:
    name = f"\u00dcML\u00c4UT-{new_queue()}"
    async with api.busy(name) as first:
        second = await api.submit(qname=name.lower())
        third = await api.submit(qname=name.title())
        for job_id in (second, third):
            job = await api.get(job_id)
            assert (job["status"], job["qname"]) == ("queued", name.lower())
    await api.ended(third)
    listed = await api.listed(3, qname=name)
    assert [job["_id"] for job in listed["data"]] == [third, second, first]


async def test_a_payloads_name_is_compared_lower_cased_too(api: Api) -> None:
    name = new_queue()
    payload = {"qname": name.upper(), "container_image": "busybox", "run": ["true"]}
    ended = await api.ended(await api.taken(await api.sealed(payload, qname=name.title())))
    assert (ended["status"], ended["qname"]) == ("success", name)


async def test_queues_are_independent(api: Api) -> None:
    one, other = new_queue(), new_queue()
    async with api.busy(one):
        waiting = await api.submit(qname=one)
        assert (await api.run(qname=other))["status"] == "success"
        assert await api.status(waiting) == "queued"
    assert (await api.ended(waiting))["status"] == "success"
