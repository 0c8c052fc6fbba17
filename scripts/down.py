"""Stops compose.yaml and removes all of it, and what its jobs left on the engine. `python -m scripts.down`."""

import json
import sys
from argparse import Namespace
from collections import Counter
from typing import Final

from scripts.compose import ContainersError, containers, docker, known, main, parser
from scripts.pulled import remove_pulled

from stint.core.subjects import LABEL_JOB, LABEL_RUNNER

LISTS: Final = {
    "containers": ("ps", "--all", "--quiet", "--no-trunc"),
    "networks": ("network", "ls", "--quiet", "--no-trunc"),
    "volumes": ("volume", "ls", "--quiet"),
    "images": ("image", "ls", "--all", "--quiet", "--no-trunc"),
}
SHORT_ID: Final = 12
"""Characters of a container's id that are its host name, and so a runner's name."""


async def down(options: Namespace) -> str:
    """Returns what was done."""
    env = known(options.env_file)
    project = json.loads(await docker("compose", "config", "--format", "json", env=env))["name"]
    ours = f"com.docker.compose.project={project}"
    before = await count(ours)
    runners = {container["Id"][:SHORT_ID] for container in await containers(env, "runner")}
    await docker("compose", "stop", "runner", env=env)
    jobs = await remove_jobs(runners, f"{project}_jobs")
    pulled = await remove_pulled(env["NATS_URL"]) if "NATS_URL" in env else 0
    await docker("compose", "down", "--volumes", "--remove-orphans", "--rmi", "local", env=env)
    await docker("image", "prune", "--force", "--filter", f"label={ours}")
    options.env_file.unlink(missing_ok=True)
    if left := +await count(ours):
        raise ContainersError(f"There is left: {words(left)}.")
    of_jobs = f", and of jobs {words(found)}" if (found := +Counter(containers=jobs, images=pulled)) else ""
    return f"removed {words(before)}{of_jobs}; nothing of {project} is left but the cache of its build"


async def count(label: str) -> Counter[str]:
    """What bears the label, by kind."""
    listed = {kind: await docker(*command, "--filter", f"label={label}") for kind, command in LISTS.items()}
    return Counter({kind: len(set(text.split())) for kind, text in listed.items()})


def words(counts: Counter[str]) -> str:
    """Such as `6 containers, 2 networks`."""
    return ", ".join(f"{number} {kind}" for kind, number in counts.items() if number) or "nothing"


async def remove_jobs(runners: set[str], network: str) -> int:
    """Remove what a runner that was killed left: containers of its jobs, and images. Returns how many containers.

    They are known by the names of the runners, and by the stack's own network for jobs.
    """
    strays = await listed("containers", f"network={network}", f"label={LABEL_JOB}")
    named = (
        await docker("inspect", "--format", f'{{{{index .Config.Labels "{LABEL_RUNNER}"}}}}', *strays) if strays else ""
    )
    labels = [f"label={LABEL_RUNNER}={runner}" for runner in sorted(runners | {*named.split()})]
    found = {*strays, *[each for label in labels for each in await listed("containers", label)]}
    if found:
        await docker("rm", "--force", "--volumes", *sorted(found))
    images = {each for label in labels for each in await listed("images", label, "dangling=true")}
    if images:
        await docker("image", "rm", "--force", *sorted(images))
    return len(found)


async def listed(kind: str, *filters: str) -> list[str]:
    """Ids."""
    return (await docker(*LISTS[kind], *(f"--filter={only}" for only in filters))).split()


if __name__ == "__main__":
    arguments = parser(__doc__)
    sys.exit(main("down", lambda: down(arguments.parse_args())))
