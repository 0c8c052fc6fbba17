"""Section 0, "Further routes": the stream of all jobs' changes."""

from tests.api.client import Api, Json, bad_request, new_queue, refused, until_term

EVENTS = "/v1/api/events"


async def test_a_jobs_life_is_told_as_lists_give_it(api: Api) -> None:
    qname = new_queue()
    stream = api.stream(EVENTS, qname=qname)
    name, place, hello = await anext(stream)
    assert (name, hello["resumed"]) == ("hello", False)
    assert hello["release"] == (await api.http.get("/v1/api/openapi.json")).json()["info"]["version"]
    job_id, told = await api.submit(until_term(), qname=qname), list[Json]()

    async def until_told(status: str) -> None:
        while not told or told[-1]["status"] != status:
            name, _, job = await anext(stream)
            assert (name, job["_id"], job["qname"]) == ("job", job_id, qname)
            told.append(job)

    await until_told("running")  # what does not last may be passed over
    await api.kill(job_id)
    await until_told("failed")
    listed = (await api.list(qname=qname))["data"][0]
    assert {**listed, **told[-1]} == listed
    await api.delete(job_id)
    assert (await anext(stream))[::2] == ("gone", {"_id": job_id, "qname": qname})
    await stream.aclose()
    again = api.stream(EVENTS, after=place, qname=qname)
    assert (await anext(again))[2]["resumed"] is True
    assert [(await anext(again))[2] for _ in told] == told
    await again.aclose()


async def test_it_needs_a_token_and_good_parameters(api: Api) -> None:
    async with api.anonymous() as http:
        refused(await http.get(EVENTS), 400, "Invalid request.")
        refused(await http.get(EVENTS, headers={"X-Auth-Token": "wrong"}), 403, "Permission Denied.")
    for params in ({"status": "over"}, {"status": "deleted"}, {"qname": "\0"}):
        bad_request(await api.http.get(EVENTS, params=params))
