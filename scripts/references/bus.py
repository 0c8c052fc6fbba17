"""What is said of states, events, and subjects on NATS."""

import inspect
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from scripts.references.markdown import attribute_docs, code, member_docs, table

from stint import __version__
from stint.core.codec import encode
from stint.core.events import EVENT_TYPES, AnyEvent
from stint.core.job import LEGAL, TERMINAL, State
from stint.core.schema import asyncapi, examples

NOBODY: Final = "[*]"
"""How a state diagram writes a job that was not submitted yet, and the end."""

Json = Mapping[str, Any]


def diagram() -> str:
    """A Mermaid diagram with one arrow for each state that an event may lead to."""
    arrows = [
        f"    {before or NOBODY} --> {after}: {kind}"
        for before, legal in LEGAL.items()
        for kind, following in legal.items()
        for after in State
        if after in following
    ]
    ends = [f"    {state} --> {NOBODY}" for state in State if state in TERMINAL and not LEGAL[state]]
    return "\n".join(["```mermaid", "stateDiagram-v2", *arrows, *ends, "```"])


def states() -> str:
    """A table of the states, each with its docstring."""
    words = member_docs(State)
    rows = [
        (f"`{state}`", words[state.name], "yes" if state in TERMINAL else "", code(LEGAL[state]) or "none")
        for state in State
    ]
    return table(("state", "meaning", "over", "events that count in it"), rows)


def events() -> str:
    """A table of the events, each with the first paragraph of its class, and the states in which it counts."""
    rows = []
    for kind, shape in EVENT_TYPES.items():
        meaning = " ".join((inspect.getdoc(shape) or "").split("\n\n")[0].split())
        before = [state or "no job yet" for state, legal in LEGAL.items() if kind in legal]
        rows.append((f"`{kind}`", meaning, ", ".join(before)))
    return table(("event", "meaning", "counts in"), rows)


def channels() -> str:
    """The subjects on NATS, and each message with its fields and an example, from the contract of the bus."""
    contract = asyncapi(__version__)
    named = [channel for channel in contract["channels"].values() if channel["address"]]  # answers have none
    subjects = [(f"`{channel['address']}`", code(channel["messages"])) for channel in named]
    messages = [message(shape, contract) for shape in EVENT_TYPES.values()]
    return "\n".join([table(("subject", "message"), subjects), output(contract), *messages])


def output(contract: Json) -> str:
    """The headers of a chunk of output."""
    headers = contract["components"]["messages"]["output"]["headers"]["properties"]
    rows = [(f"`{name}`", header["description"]) for name, header in headers.items()]
    return f"\n### output\n\nThe body is the bytes that the job wrote.\n\n{table(('header', 'meaning'), rows)}"


def message(shape: type[AnyEvent], contract: Json) -> str:
    """One event's header, fields and an example."""
    schema = contract["components"]["schemas"][shape.__name__]
    words = attribute_docs(shape)
    headers = contract["components"]["messages"][shape.kind].get("headers", {}).get("properties", {})
    said = "".join(f"\nHeader `{name}`, not required. {header['description']}\n" for name, header in headers.items())
    rows = [
        (f"`{name}`", field.get("type", ""), "yes" if name in schema["required"] else "", words.get(name, ""))
        for name, field in schema["properties"].items()
        if name != "type"
    ]
    example = msgspec.json.format(encode(examples()[shape.kind])).decode()
    fields = table(("field", "type", "required", "meaning"), rows)
    return f"\n### {shape.kind}\n{said}\n{fields}\n\n```json\n{example}\n```"
