"""The least that an API can do with a submission: Starlette on Stint's server parses the JSON, and answers.

`python -m benchmarks.bare_api` serves on a free port, and prints it.
"""

import asyncio
import socket

import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def submit(request: Request) -> JSONResponse:
    """Accept anything, and store nothing."""
    job = msgspec.json.decode(await request.body())
    return JSONResponse({"_id": "0" * 24, "status": "queued", "qname": job["qname"]})


def main() -> None:
    """Serve until a signal comes."""
    app = Starlette(routes=[Route("/v1/api/job", submit, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)  # noqa: T201 - to whoever started it
        server = uvicorn.Server(uvicorn.Config(app, http="httptools", access_log=False, log_level="error"))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))


if __name__ == "__main__":
    main()
