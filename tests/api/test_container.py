"""Contract, sections 0 and 3: the container that a job runs in."""

import asyncio
from functools import partial

import pytest

from tests.api.archive import build
from tests.api.client import Api, Json, shell, until_term
from tests.support.scripts import lasting
from tests.support.waiting import until

HOME = "/tmp"  # noqa: S108 - the contract's word for the job's user


async def test_command_entrypoint_and_folder(api: Api) -> None:
    print_all = shell('echo "$0|$@|$(pwd)"')
    job = await api.run(entrypoint=print_all, run=["a b", "$HOME", ""], working_directory="/var/new folder")
    assert job["output"] == "a b|$HOME |/var/new folder\n"


async def test_what_is_not_given_is_the_images(api: Api) -> None:
    image = await build(
        api.env["DOCKER_HOST"],
        "stint-suite/defaults:1",
        'FROM busybox\nENV FROM_IMAGE=yes A=image\nWORKDIR /srv\nENTRYPOINT ["sh", "-c"]\n'
        'CMD ["echo $FROM_IMAGE $A $(pwd); sleep 0.15"]\n',
    )
    assert (await api.run(container_image=image, run=[]))["output"] == "yes image /srv\n"
    job = await api.run(container_image=image, run=[lasting("echo mine $A")], env_vars=["A=job"])
    assert job["output"] == "mine job\n"
    job = await api.run(container_image=image, entrypoint=["sh", "-c"], run=[lasting("pwd")], working_directory="/etc")
    assert job["output"] == "/etc\n"


async def test_variables(api: Api) -> None:
    """The server's own come last."""
    values = ["A=1", "B=two words", "C=", "D=x=y", "E=$A", "F=l1\nl2", "G=\u00fc", "VAULT_ADDR=http://forged"]
    job = await api.run('printf "%s|" "$A" "$B" "$C" "$D" "$E" "$F" "$G" "$VAULT_ADDR"', env_vars=values)
    assert job["output"] == f"1|two words||x=y|$A|l1\nl2|\u00fc|{api.env['VAULT_ADDR']}|"


async def test_the_user_and_its_home(api: Api) -> None:
    job = await api.run("id -u; id -g; echo $HOME; id -un; pwd; grep 2001 /etc/passwd; stat -c '%a %u' /etc/passwd")
    assert job["output"].splitlines() == [
        *("2001", "2001", HOME, "gostint", "/"),
        *(f"gostint:x:2001:2001:gostint:{HOME}:/bin/sh", "444 0"),
    ]


@pytest.mark.parametrize(
    ("name", "dockerfile", "lines"),
    [
        ("none", "FROM scratch\nCOPY --from=busybox /bin /bin\nENV PATH=/bin\n", 1),
        ("no-newline", "FROM busybox\nCOPY passwd /etc/passwd\n", 2),
        ("present", "FROM busybox\nCOPY present /etc/passwd\n", 3),
        ("empty", "FROM busybox\nCOPY empty /etc/passwd\n", 1),
    ],
)
async def test_images_with_and_without_a_passwd_file(api: Api, name: str, dockerfile: str, lines: int) -> None:
    root = "root:x:0:0:root:/root:/bin/sh"
    files = {"passwd": root, "present": f"{root}\nown:x:2001:2001:own:/var:/bin/sh\n", "empty": ""}
    image = await build(api.env["DOCKER_HOST"], f"stint-suite/passwd:{name}", dockerfile, files)
    job = await api.run("cat /etc/passwd; echo $HOME; id -un", container_image=image)
    *passwd, home, user = job["output"].splitlines()
    assert job["status"] == "success", job
    assert len(passwd) == lines
    assert f"gostint:x:2001:2001:gostint:{HOME}:/bin/sh" in passwd
    assert all(line.count(":") == 6 for line in passwd)
    assert (home, user) == (HOME, "gostint")


async def test_a_terminal(api: Api) -> None:
    job = await api.run("test -t 1 && echo a terminal; echo err >&2", tty=True)
    assert (job["tty"], job["status"]) == (True, "success")
    assert (job["output"], job["stderr"]) == ("a terminal\r\nerr\r\n", "")
    assert await api.raw(job["_id"], stream="stdout") == b"a terminal\r\nerr\r\n"
    assert await api.raw(job["_id"], stream="stderr") == b""
    assert (await api.run("test -t 1 || echo none"))["output"] == "none\n"


async def test_it_is_hardened(api: Api) -> None:
    limit = "printf 'core:\\t%s\\n' $(ulimit -Hc)"
    job = await api.run(f"grep -E '^(NoNewPrivs|CapEff|CapBnd):' /proc/self/status; {limit}")
    found = dict(line.split(":\t") for line in job["output"].splitlines())
    assert (found["NoNewPrivs"], found["core"]) == ("1", "0")
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"run": ["no-such-command"]}, 127),
        ({"entrypoint": ["/no/such"], "run": []}, 127),
        ({"run": ["/etc/passwd"]}, 126),
        ({"working_directory": "not/absolute"}, 0),
        ({"env_vars": ["=nameless"]}, 0),
    ],
)
async def test_a_container_that_cannot_start(api: Api, fields: Json, code: int) -> None:
    job = await api.run(**{"run": shell("true"), **fields})
    assert job["status"] == "failed"
    assert job["reason"] in {"container", "payload"}
    assert job["return_code"] in {0, code}
    assert job["output"] == job["error"]
    assert job["error"].startswith(("Run container failed: ", "Incorrect value in "))


async def test_nothing_is_left_behind(api: Api) -> None:
    """Each job's container is removed with its job."""
    if not api.env["DOCKER_HOST"].startswith("unix://"):
        pytest.skip("the engine is elsewhere")
    killed = await api.submit(until_term())
    await api.said(killed)
    await api.kill(killed)
    for job in [await api.ended(killed), await api.run("false"), await api.run(run=["no-such-command"])]:
        async with api.engine() as engine:
            path = f"/containers/{job['container_id']}/json"
            await until(partial(engine.get, path), lambda answer: answer.status_code == 404)


async def test_the_exit_code_is_the_jobs(api: Api) -> None:
    scripts = {"exit 0": 0, "exit 1": 1, "exit 42": 42, "exit 255": 255, "sh -c 'kill -9 $$'; exit $?": 137}
    for code, job in zip(scripts.values(), await asyncio.gather(*map(api.run, scripts)), strict=True):
        assert (job["return_code"], job["status"]) == (code, "failed" if code else "success")
