"""A nats-server configuration with the roles' accounts. JSON, which nats-server reads as its own format."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, Final

from stint.core.names.ids import queue_token
from stint.core.names.patterns import QueuePatterns
from stint.core.names.subjects import INBOX
from stint.natsauth.requests import Role, merged
from stint.natsauth.roles import (
    ALL_PUBLISHERS,
    CALLOUT,
    CALLOUT_OF_SYSTEM,
    CALLOUT_ROLE,
    LOGINS,
    OPERATOR,
    RUNNER,
    RUNNERS,
    SERVICES,
    named_runner,
    pool,
    publisher,
    subscriber,
)

STREAMS_ACCOUNT: Final = "STINT"
SYSTEM_ACCOUNT: Final = "$SYS"  # the one that NATS uses if its configuration names no other
SUBSCRIPTIONS: Final = 1000  # of one connection. What NATS calls an account's limit counts for each of its connections
LIMITS: Final[Mapping[str, int]] = {"max_connections": 100, "max_subscriptions": SUBSCRIPTIONS}
"""Of one publisher with a key, and of one subscriber, each of which has an account of its own."""
TOKENS_LIMITS: Final[Mapping[str, int]] = {"max_connections": 2000, "max_subscriptions": SUBSCRIPTIONS}
"""Of all publishers with Vault tokens together. Of these `stint nats-auth` counts the connections of each."""
ANSWER_WITHIN: Final = 1.5  # seconds that deciding a login may take
LOGIN_WITHIN: Final = 1.9
"""Seconds that a login may take until the server refuses it: a little less than the 2 s that clients wait, so that
they hear of it."""

TOLD_WITHIN: Final = "3s"
"""For which NATS keeps the way back of what a role tells another: longer than anybody waits for the answer, and not for
two minutes, as by default. Anybody may send requests that are dropped. Each takes 0.7 kB of NATS, which goes through
all of them whenever somebody ends a subscription with a wildcard."""
ANSWERS: Final[Mapping[str, Any]] = {"max": 1, "expires": "10s"}  # one to each message of another role, in this time

Json = dict[str, Any]


def accounts(
    keys: Mapping[str, str],  # each user's public nkey, by name; of runners with one of their own as `runners/NAME`
    publishers: Mapping[str, Sequence[str]],  # the queues of each publisher, by name
    subscribers: Mapping[str, str],  # the public nkey of each subscriber, by name
    pools: Mapping[str, QueuePatterns],  # the queues that the runners of each pool serve, by name
) -> Json:
    """The accounts of the streams and of each role."""
    subscriber_roles = {name: subscriber(name) for name in subscribers}
    publisher_roles = {name: key_publisher(name, queues) for name, queues in publishers.items()}
    pool_roles = {name: _pool(name, served) for name, served in pools.items()}
    return {
        STREAMS_ACCOUNT: {
            "jetstream": "enabled",
            "users": [{"nkey": keys[OPERATOR]}],
            "exports": _exports([*SERVICES, CALLOUT_ROLE, ALL_PUBLISHERS, *subscriber_roles.values()]),
        },
        **{role.account: _account(role, _users(role, keys), pool_roles.values()) for role in SERVICES},
        **{role.account: _account(role, [_user(role, keys[name])]) for name, role in pool_roles.items()},
        ALL_PUBLISHERS.account: {**_account(ALL_PUBLISHERS, []), "limits": dict(TOKENS_LIMITS)},
        **{role.account: _limited(role, keys[name]) for name, role in publisher_roles.items()},
        **{role.account: _limited(role, subscribers[name]) for name, role in subscriber_roles.items()},
    }


def _pool(name: str, served: QueuePatterns) -> Role:
    """What a pool's account may do. Of patterns a configuration knows nothing: only logins can be for their queues."""
    return pool(name) if served.names is None else pool(name, [queue_token(qname) for qname in served.names])


def _limited(role: Role, key: str) -> Json:
    """The account of one user outside of Stint, who can exhaust no other's connections and subscriptions."""
    return {**_account(role, [_user(role, key, f"{INBOX}.{role.user}")]), "limits": dict(LIMITS)}


def callout(
    keys: Mapping[str, str],
    issuer: str,
    xkey: str,
    decided: Collection[str],
    subscribers: Mapping[str, str],
    *,
    system: str = SYSTEM_ACCOUNT,
) -> Json:
    """Let the service decide the logins of the `decided` public nkeys, and of everybody whom nobody knows.

    `keys` are the public nkeys by user, among them `nats-auth`; `issuer` is that of the account key that signs
    answers, and logins are encrypted for `xkey`; `subscribers` are as in `accounts`, `system` is NATS' system account.
    """
    service = _user(replace(merged([CALLOUT_ROLE, CALLOUT_OF_SYSTEM]), answers=True), keys[CALLOUT])
    service["permissions"]["subscribe"]["allow"].append(LOGINS)
    account = _account(CALLOUT_ROLE, [service])
    account["imports"] += _imports(CALLOUT_OF_SYSTEM, system)
    return {
        "accounts": {CALLOUT_ROLE.account: account, system: {"exports": _exports([CALLOUT_OF_SYSTEM])}},
        "authorization": {
            "timeout": LOGIN_WITHIN,
            "auth_callout": {
                "issuer": issuer,
                "xkey": xkey,
                "account": CALLOUT_ROLE.account,
                "auth_users": [*(key for key in keys.values() if key not in decided), *subscribers.values()],
            },
        },
    }


def _exports(roles: Iterable[Role]) -> list[Json]:
    services: dict[str, int] = {}
    streams: set[str] = set()
    for role in roles:
        for request in role.requests:
            services[request.subject] = max(request.many, services.get(request.subject, 0))
        streams.update(role.hears)
    return [
        *(
            {"service": subject} | ({"response_type": "stream", "response_threshold": f"{many}s"} if many else {})
            for subject, many in services.items()
        ),
        *({"stream": subject} for subject in sorted(streams)),
    ]


def _account(role: Role, users: Sequence[Json], listeners: Iterable[Role] = ()) -> Json:
    """The account of a role. Some of the `listeners` may overhear it."""
    overheard = dict.fromkeys(chain.from_iterable(other.overhears.get(role.name, ()) for other in listeners))
    return {
        "users": users,
        "exports": [
            *({"service": subject, "response_threshold": TOLD_WITHIN} for subject in _told_to(role)),
            *({"stream": name} for name in overheard),
        ],
        "imports": [
            *_imports(role, STREAMS_ACCOUNT),
            *(
                {"service": {"account": other.account, "subject": subject}}
                for other in SERVICES
                for subject in role.tells.get(other.name, ())
            ),
            *(
                {"stream": {"account": other.account, "subject": subject}}
                for other in SERVICES
                for subject in role.overhears.get(other.name, ())
            ),
        ],
    }


def _told_to(role: Role) -> Sequence[str]:
    """What other roles tell this one."""
    return [subject for other in (*SERVICES, ALL_PUBLISHERS) for subject in other.tells.get(role.name, ())]


def _imports(role: Role, account: str) -> Iterable[Json]:
    for request in dict.fromkeys(role.requests):
        renamed = {"to": request.seen_as} if request.seen_as != request.subject else {}
        yield {"service": {"account": account, "subject": request.subject}, **renamed}
    for subject in dict.fromkeys(role.hears):
        yield {"stream": {"account": account, "subject": subject}}


def _users(role: Role, keys: Mapping[str, str]) -> list[Json]:
    """The role's common user, and the runners with keys of their own."""
    named = [user for user in keys if role is RUNNER and user.startswith(RUNNERS)]
    return [
        _user(role, keys[role.name]),
        *(_user(named_runner(user.removeprefix(RUNNERS)), keys[user]) for user in named),
    ]


def _user(role: Role, key: str, inbox: str = INBOX) -> Json:
    return {"nkey": key, "permissions": permissions(role, inbox)}


def permissions(role: Role, inbox: str) -> Json:
    """The subjects of a user with this role, who receives answers in these inboxes."""
    publish = [*(request.seen_as for request in role.requests), *role.among, *chain(*role.tells.values())]
    return {
        "publish": {"allow": list(dict.fromkeys(publish)), **({"deny": list(role.never)} if role.never else {})},
        "subscribe": {"allow": [*role.hears, *_told_to(role), *chain(*role.overhears.values()), f"{inbox}.>"]},
        **({"allow_responses": dict(ANSWERS)} if role.answers else {}),
    }


def key_publisher(name: str, queues: Sequence[str]) -> Role:
    """What a publisher with a key may do, in an account of its own."""
    return merged([publisher(queue_token(queue)) for queue in queues], user=name)


def rendered(settings: Mapping[str, Any]) -> str:
    """The settings as text, one a line and indented."""
    return "".join(f"{name}: {json.dumps(value, indent=2, ensure_ascii=False)}\n" for name, value in settings.items())
