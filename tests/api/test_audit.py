"""Which jobs got which secret, and receipts, on a whole stack: what `docs/guides/audit.md` says."""

import base64
import hashlib
import json

from nacl.signing import VerifyKey

from tests.api.client import BUSYBOX, JOB, Api, Json, new_queue, shell
from tests.support.waiting import until


async def test_the_versions_of_a_secret_that_jobs_got_are_shown(api: Api) -> None:
    qname, name = new_queue(), new_queue()
    jobs = []
    for password in ("first", "second"):
        await api.vault.put_secret(name, {"password": password})
        job_id = await api.submit("true", qname=qname, secret_refs=[f"P@kv/data/{name}.password"])
        assert (await api.ended(job_id))["status"] == "success"
        jobs.append(job_id)

    async def lineage() -> Json:
        body: Json = (await api.http.get("/v1/api/lineage", params={"secret": f"kv/data/{name}.password"})).json()
        return body

    body = await until(lineage, lambda found: len(found.get("data", ())) == 2)
    assert set(body) == {"data", "now", "as_of", "newest"}
    assert [(one["job"], one["version"], one["outdated"]) for one in body["data"]] == [
        (jobs[1], 2, False),
        (jobs[0], 1, True),
    ]
    assert body["newest"] == 2


async def test_a_receipt_is_what_the_guide_says(api: Api) -> None:
    """Checked as somebody would who has the guide, and none of Stint's own code."""
    qname = new_queue()
    sealed = await api.vault.sealed({"qname": qname, "container_image": BUSYBOX, "run": shell("echo out; exit 3")})
    answer = await api.http.post(JOB, json=await api.envelope(qname=qname, payload=sealed))
    job = await api.ended(answer.json()["_id"])
    file = (await api.http.get(f"{JOB}/{job['_id']}/receipt")).content
    signed, _, rest = file.removeprefix(b'{"receipt":').partition(b',"signature":')
    stated, signature = json.loads(signed), base64.b64decode(json.loads(b'{"signature":' + rest)["signature"])
    keys = (await api.http.get("/v1/api/receipt/keys")).json()
    public = base64.b64decode(keys["keys"][str(stated["key"]["version"])])
    assert VerifyKey(public).verify(signed, signature) == signed
    assert stated["key"]["sha256"] == hashlib.sha256(public).hexdigest()
    assert stated["payload_sha256"] == hashlib.sha256(sealed.encode()).hexdigest()
    assert stated["image"]["id"].startswith("sha256:")
    assert (stated["job"], stated["status"], stated["return_code"]) == (job["_id"], "failed", 3)
    chunk = hashlib.sha256(b"out\n").hexdigest()
    assert stated["output"] == {
        "bytes": 4,
        "chunks": 1,
        "digest": chunk,
        "complete": True,
        "truncated": False,
        "masked": 0,
    }
    assert [fact["kind"] for fact in stated["facts"]] == ["submitted", "started", "launched", "ended"]
