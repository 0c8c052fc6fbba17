"""Contract, section 0: a job's output."""

from tests.api.client import JOB, Api, bad_request


async def test_both_streams_in_the_order_in_which_they_came(api: Api) -> None:
    job = await api.run_in_steps(*(step for i in range(1, 4) for step in (f"echo out{i}", f"echo err{i} >&2")))
    whole, stdout, stderr = "out1\nerr1\nout2\nerr2\nout3\nerr3\n", "out1\nout2\nout3\n", "err1\nerr2\nerr3\n"
    assert (job["output"], job["stdout"], job["stderr"]) == (whole, stdout, stderr)
    assert (job["output_bytes"], job["output_truncated"], job["output_complete"]) == (30, False, True)
    for stream, text in (({}, whole), ({"stream": "stdout"}, stdout), ({"stream": "stderr"}, stderr)):
        assert await api.raw(job["_id"], **stream) == text.encode()
    for word in ("", "both", "STDOUT"):
        bad_request(await api.http.get(f"{JOB}/{job['_id']}/output", params={"stream": word}))
    without = await api.get(job["_id"], output="false")
    assert without == {**job, "output": "", "stdout": "", "stderr": ""}


async def test_bytes_that_are_no_text(api: Api) -> None:
    job = await api.run(r"printf 'a\377\000\303'; sleep 0.1; printf '\274b\r\n'; printf '\302' >&2")
    assert job["stdout"] == "a\ufffd\0\u00fcb\r\n"
    assert job["stderr"] == "\ufffd"
    assert await api.raw(job["_id"], stream="stdout") == b"a\xff\0\xc3\xbcb\r\n"
    assert await api.raw(job["_id"], stream="stderr") == b"\xc2"
    assert sorted(await api.raw(job["_id"])) == sorted(b"a\xff\0\xc3\xbcb\r\n\xc2")


async def test_a_lot_of_it_and_little(api: Api) -> None:
    job = await api.run("seq 1 200000")
    wanted = "".join(f"{number}\n" for number in range(1, 200001))
    assert job["output"] == job["stdout"] == wanted
    assert (job["output_bytes"], job["output_truncated"]) == (len(wanted), False)
    assert await api.raw(job["_id"]) == wanted.encode()
    for script, output in {"true": "", "printf x": "x", "printf '\\n\\n'": "\n\n"}.items():
        job = await api.run(script)
        assert (job["output"], job["output_bytes"]) == (output, len(output))


async def test_the_stream_goes_on_where_it_broke_or_begins_at_a_line_whose_number_it_keeps(api: Api) -> None:
    job_id = (await api.run_in_steps("printf 1", "echo err >&2", r"printf '\n2'", r"printf '\n3\n'"))["_id"]
    events = [event async for event in api.events(job_id)]
    output = [event.data for event in events if event.name == "output"]
    assert [(data["text"], data["line"], data["continues"]) for data in output] == [
        *(("1", 1, False), ("err\n", 2, False), ("\n2", 3, True), ("\n3\n", 4, True))
    ]
    assert [data["at"] for data in output] == sorted(data["at"] for data in output)
    for number, event in enumerate(events[:-1]):
        rest = [later async for later in api.events(job_id, after=event.ident)]
        assert rest == events[number + 1 :]
    for params in ({"tail": "1"}, {"from_line": "4"}):
        last = [event.data async for event in api.stream(f"{JOB}/{job_id}/events", **params) if event.name == "output"]
        assert last == output[-1:]


async def test_the_last_lines_of_it(api: Api) -> None:
    job_id = (await api.run_in_steps("seq 1 3", "echo err >&2", "seq 5 7; printf 8"))["_id"]
    for params, wanted in (
        ({"tail": "0"}, b""),
        ({"tail": "2"}, b"7\n8"),
        ({"tail": "5", "stream": "stdout"}, b"5\n6\n7\n8"),
        ({"tail": "100"}, b"1\n2\n3\nerr\n5\n6\n7\n8"),
        ({"from_line": "4"}, b"err\n5\n6\n7\n8"),
        ({"from_line": "9"}, b""),
    ):
        assert await api.raw(job_id, **params) == wanted
    for params in ({"tail": "-1"}, {"tail": "x"}, {"from_line": "0"}, {"tail": "1", "from_line": "1"}):
        for path in ("output", "events"):
            bad_request(await api.http.get(f"{JOB}/{job_id}/{path}", params=params))
