"""The scenarios of README.md, by the client in Python.

Usage: scenarios.py ADDRESS ADDRESS ADDRESS, the client listeners of three nodes of one cluster.
"""

import asyncio
import functools
import json
import sys
import time
from contextlib import aclosing
from itertools import count

from grpc import StatusCode as Code
from stator_client import (
    DELETE,
    Begun,
    BlockingClient,
    Changed,
    Client,
    Conflict,
    DeadlineExceeded,
    Delete,
    Get,
    Listed,
    ListingBegun,
    NotAllowed,
    NotReached,
    Put,
    QuotaExceeded,
    Refused,
    RequestIdReused,
    StaleContext,
    StatorError,
    UnknownKeyspace,
    Unreachable,
)

NODES = sys.argv[1:4]
#: Port 1 is reserved and nothing listens on it.
DEAD = "127.0.0.1:1"

#: A client that asks the nodes it is given, and no other.
asking = functools.partial(Client.connect, coordination="any")


def equal(found, expected, what):
    assert found == expected, f"{what}: {found!r}, not {expected!r}"


async def fails(kind, reason, call):
    """The error of `call`, which must be of this class and reason."""
    try:
        answer = await call
    except StatorError as error:
        equal((type(error), error.reason), (kind, reason), error)
        return error
    raise AssertionError(f"{reason} was expected, not {answer}")


async def eventually(what, attempt):
    """Tries until it holds."""
    deadline = time.monotonic() + 60
    while not (found := await attempt()):
        assert time.monotonic() < deadline, f"{what}: not after 60 s"
        await asyncio.sleep(0.02)
    return found


async def driver(action, node):
    """Has something done to a node by whoever runs this; the words that come with the answer."""
    print(f"do {action} {node}", flush=True)
    done, *words = (await asyncio.to_thread(sys.stdin.readline)).split()
    equal(done, "done", f"the answer to {action}")
    return words


def elements(value):
    """A set of words, as text."""
    return set((value or b"").decode().split())


def joined(words):
    return " ".join(sorted(words))


def union(siblings):
    return joined(set().union(*(elements(sibling.value) for sibling in siblings)))


def adding(word):
    return lambda value: joined(elements(value) | {word})


async def values(client):
    absent = await client.get("kept", "greeting")
    equal((absent.value, absent.siblings), (None, ()), "an absent key")
    first = await client.put("kept", "greeting", "hello", context=absent.context)
    assert first.acked >= 2 and not first.siblings_remain, first
    read = await client.get("kept", "greeting")
    equal((read.value, read.text), (b"hello", "hello"), "the value")
    equal(read.siblings[0].dots, (first.dot,), "the dot")
    second = await client.put("kept", "greeting", "good day", context=read.context)
    equal((await client.get("kept", "greeting")).text, "good day", "replaced")
    # What a put answers is as good as another get.
    await client.put("kept", "greeting", "", context=second.context, durability="buffered")
    read = await client.get("kept", "greeting")
    equal(read.value, b"", "an empty value is a value")
    await client.delete("kept", "greeting", context=read.context)
    equal((await client.get("kept", "greeting")).value, None, "deleted")
    stored = await client.siblings("kept", "greeting")
    assert all(version.is_tombstone for version in stored.siblings), stored
    every = bytes(range(256))
    await client.put("kept", every, every)
    equal((await client.get("kept", every)).value, every, "binary keys and values")
    await client.delete("kept", every, observed=True)
    equal((await client.get("kept", every)).value, None, "deleted as observed")
    equal(await asyncio.to_thread(without_asyncio), "one two", "without asyncio")


def without_asyncio():
    with BlockingClient.connect(NODES) as plain:
        plain.put("kept", "plain", "one")
        plain.update("kept", "plain", lambda value: (value or b"") + b" two")
        [read] = plain.batch([Get("kept", "plain")])
        equal([key.key for key in plain.list("kept", prefix="pl")], [b"plain"], "listed")
        events = plain.watch("kept", key="plain", from_start=True)
        told = next(event for event, _ in events if isinstance(event, Changed))
        events.close()
        equal(told.now, read, "as it is told")
        return read.text


async def siblings(client):
    for item in ("tea", "milk"):
        written = await client.put("kept", "cart", item)
        equal(written.siblings_remain, item == "milk", f"siblings beside {item}")
        equal(written.context is None, item == "milk", "a context only of a sole version")
    both = await client.get("kept", "cart")
    equal(sorted(both.values), [b"milk", b"tea"], "both are kept")
    equal(both.merge.sibling_count, 2, "the merge info")
    try:
        raise AssertionError(f"siblings have no one value, not {both.value}")
    except Conflict as error:
        equal((error.reason, error.may_be_applied), ("SIBLINGS", False), error)
    sizes = [version.value_bytes for version in (await client.metadata("kept", "cart")).siblings]
    equal(sorted(sizes), [3, 4], "the metadata")
    await client.put("kept", "cart", "jam")
    settled = await client.put("kept", "cart", "milk and tea", context=both.context)
    assert settled.siblings_remain, "what was not seen stays"
    seen = [both.context, (await client.get("kept", "cart")).context]
    settled = await client.put("kept", "cart", "all", context=seen)
    assert not settled.siblings_remain, settled
    equal((await client.get("kept", "cart")).text, "all", "several contexts are joined")


async def update_settled(client):
    words = [f"word-{number}" for number in range(12)]
    add = (client.update("kept", "set", adding(word), settle=union) for word in words)
    await asyncio.gather(*add)
    await client.update("kept", "set", adding("last"), settle=union)
    equal(elements((await client.get("kept", "set")).value), {*words, "last"}, "no word is lost")
    equal(await client.update("kept", "set", lambda _: None), None, "left as it is")
    await client.update("kept", "set", lambda _: DELETE)
    equal((await client.get("kept", "set")).value, None, "deleted")
    for word in ("one", "two"):
        await client.put("kept", "set", word)
    await fails(Conflict, "SIBLINGS", client.update("kept", "set", adding("three")))


async def update_merged(client):
    def adding_item(number):
        def change(value):
            cart = json.loads(value or b'{"items":{},"removed":[]}')
            cart["items"][f"task:{number}"] = {"quantity": 1, "sku": "tea"}
            return json.dumps(cart)

        return change

    await asyncio.gather(*(client.update("carts", "c", adding_item(n)) for n in range(12)))
    read = await client.get("carts", "c")
    equal(set(json.loads(read.value)["items"]), {f"task:{n}" for n in range(12)}, "every item")
    assert read.merge.failure is None, read.merge


async def errors(client):
    error = await fails(UnknownKeyspace, "UNKNOWN_KEYSPACE", client.get("nowhere", "k"))
    equal((error.metadata["keyspace"], error.may_be_applied), ("nowhere", False), error)
    error = await fails(Refused, "KEY_TOO_LARGE", client.put("kept", "k" * 5000, "v"))
    equal((error.violations[0].subject, error.effect), ("key", "NONE"), error)
    await fails(Refused, "KEY_EMPTY", client.get("kept", ""))
    await fails(Refused, "BAD_QUORUM", client.put("kept", "k", "v", w=4))
    await fails(Refused, "NO_CONTEXT", client.delete("kept", "k"))
    await fails(StaleContext, "CONTEXT_FORGED", client.put("kept", "k", "v", context=b"forged"))
    current = {"context": (await client.get("kept", "one")).context, "only_if_current": True}
    first = await client.put("kept", "one", "first", **current)
    await fails(StaleContext, "CHANGED", client.put("kept", "one", "second", **current))
    equal((await client.get("kept", "one", at_least=[first.dot])).text, "first", "its own write")


async def request_ids(client):
    first = await client.put("kept", "order", "paid", request_id="order 7")
    again = await client.put("kept", "order", "paid", request_id="order 7")
    equal(again.dot, first.dot, "a retry is the same write")
    equal(len((await client.siblings("kept", "order")).siblings), 1, "versions")
    other = client.put("kept", "order", "refunded", request_id="order 7")
    equal((await fails(RequestIdReused, "REQUEST_ID_REUSED", other)).dot, first.dot, "the dot")


async def batches(client):
    items = [Put("kept", f"batch-{n}", f"value {n}", w=3, labels={"n": str(n)}) for n in range(3)]
    written = await client.batch([*items, Put("nowhere", "k", "v"), Delete("kept", "k", b"forged")])
    equal([w.acked for w in written[:3]], [3, 3, 3], "each put")
    equal([type(error) for error in written[3:]], [UnknownKeyspace, StaleContext], written[3:])
    assert not written[3].may_be_applied, written[3]
    gets = [Get("kept", f"batch-{n}") for n in range(4)]
    read = await client.batch(gets)
    equal([one.text for one in read], ["value 0", "value 1", "value 2", None], "each get")
    equal(dict(read[2].siblings[0].labels), {"n": "2"}, "the labels")
    change = [
        Put("kept", "batch-0", "new", read[0].context),
        Delete("kept", "batch-1", read[1].context),
    ]
    assert not any(w.siblings_remain for w in await client.batch(change))
    equal([one.text for one in await client.batch(gets[:2])], ["new", None], "replaced and deleted")
    too_many = client.batch([Get("kept", "k")] * 257)
    await fails(Refused, "BATCH_TOO_LARGE", too_many)


async def lists(client):
    keys = [f"list-{n:03}" for n in range(300)]
    for at in range(0, len(keys), 100):
        await client.batch([Put("kept", key, f"v {key}", w=3) for key in keys[at : at + 100]])
    await client.delete("kept", "list-007", observed=True)
    left = sorted({*keys} - {"list-007"})

    async def listed(**options):
        return [key async for key in client.list("kept", prefix="list-", **options)]

    found = await listed(view="merged")
    equal(sorted(key.key.decode() for key in found), left, "every key once")
    assert all(key.text == f"v {key.key.decode()}" for key in found), found
    equal({key.siblings[0].value for key in await listed()}, {None}, "without values")
    equal(len(await listed(limit=5)), 5, "as many as one wants")
    some = [k.key async for k in client.list("kept", start="list-100", until="list-110")]
    equal(sorted(some), [f"list-{n}".encode() for n in range(100, 110)], "a range")
    first, before = client.list("kept", prefix="list-"), []
    async with aclosing(first.__aiter__()) as some:
        async for key in some:
            before.append(key.key.decode())
            if len(before) == 200:
                break
    rest = [key.key.decode() for key in await listed(token=first.token)]
    equal(sorted({*before, *rest}), left, "from where another listing was")
    assert 0 < len(rest) < len(left), rest
    # The node that tells goes away in the middle: another one goes on.
    async with asking(NODES[:2]) as two:
        seen = []
        async for key in two.list("kept", prefix="list-"):
            if not seen:
                await driver("pause", 1)
            seen.append(key.key.decode())
            if len(seen) == len(left):
                break
        await driver("resume", 1)
    equal(sorted(seen), left, "across a break")


async def watches(client):
    async def until(events, wanted):
        """Takes events until all these keys have these texts."""
        left = dict(wanted)
        async for event in events:
            if isinstance(event, Changed) and event.now.key.decode() in left:
                key = event.now.key.decode()
                if event.now.text == left[key]:
                    del left[key]
            if not left:
                return
        raise AssertionError(f"it ended before {left}")

    async def begin(watch):
        events = watch.__aiter__()
        async for event in events:
            if isinstance(event, Begun):
                return events

    watch = client.watch("kept", prefix="watch-")
    events = await begin(watch)
    first = await client.put("kept", "watch-1", "one")
    await client.put("kept", "elsewhere", "v")
    await until(events, {"watch-1": "one"})
    await client.put("kept", "watch-1", "two", context=first.context)
    await client.put("kept", "watch-2", "three")
    await until(events, {"watch-1": "two", "watch-2": "three"})
    await driver("pause", 3)
    async with asking(NODES[:2]) as near:
        await near.put("kept", "watch-3", "without it", request_id="w")
        await until(events, {"watch-3": "without it"})
    await driver("resume", 3)
    token = watch.token
    await events.aclose()
    await client.put("kept", "watch-4", "between")
    await client.delete("kept", "watch-2", observed=True)
    again = client.watch("kept", prefix="watch-", resume=token)
    events = again.__aiter__()
    await until(events, {"watch-4": "between", "watch-2": None})
    await events.aclose()
    await fails(Refused, "BAD_TOKEN", bad_token(client, token))
    kept = client.watch("kept", prefix="watch-", from_start=True)
    there, is_listing = {}, False
    async with aclosing(kept.__aiter__()) as events:
        async for event in events:
            is_listing = is_listing or isinstance(event, ListingBegun)
            if isinstance(event, Changed) and is_listing:
                there[event.now.key.decode()] = event.now.text
            if isinstance(event, Listed):
                break
    equal(there, {"watch-1": "two", "watch-3": "without it", "watch-4": "between"}, "all there is")
    gone = until(client.watch("nowhere"), {"k": "v"})
    await fails(UnknownKeyspace, "UNKNOWN_KEYSPACE", gone)


async def bad_token(client, token):
    return client.watch("kept", prefix="other-", resume=token)


async def quotas(client):
    for key in ("one", "two"):
        await client.put("small", key, "v", w=3)
    error = await fails(QuotaExceeded, "QUOTA_EXCEEDED", client.put("small", "three", "v"))
    equal((error.quota, error.found, error.max, error.effect), ("keys", 2, 2, "NONE"), error)
    assert error.retry_after is None, error
    [outcome] = await client.batch([Put("small", "three", "v")])
    equal((type(outcome), outcome.quota), (QuotaExceeded, "keys"), outcome)
    read = await client.get("small", "one")
    await client.put("small", "one", "a larger value", context=read.context)
    async with asking(NODES[:1], attempts_max=1) as once:

        async def refused():
            try:
                await once.get("slow", "k")
            except QuotaExceeded as error:
                return error

        error = await eventually("requests are refused", refused)
        assert error.quota == "requests" and error.retry_after > 0, error
    # Others wait as long as they are told to.
    await client.get("slow", "k", timeout=30)


async def ttl_and_labels(client):
    await client.put("kept", "brief", "v", ttl=3600, labels={"from": "a test"}, schema=3)
    read = await client.get("kept", "brief")
    version = read.siblings[0]
    equal((version.schema, dict(version.labels)), (3, {"from": "a test"}), "schema and labels")
    equal(version.expires_at_ms - version.written_at_ms, 3_600_000, "the time to live")
    await client.put("kept", "brief", "v", ttl=0.2, context=read.context)

    async def is_gone():
        return not (await client.get("kept", "brief")).siblings

    await eventually("it expires", is_gone)


async def deadline(client):
    async with asking(NODES[:1]) as alone, asking(NODES[:2]) as both:
        for some in (alone, both, both):
            await some.get("kept", "slow")
        await driver("pause", 1)
        get = alone.get("kept", "slow", timeout=0.5)
        assert (await fails(DeadlineExceeded, "NO_ANSWER", get)).code == Code.DEADLINE_EXCEEDED
        put = alone.put("kept", "slow", "maybe", timeout=0.5)
        assert (await fails(DeadlineExceeded, "NO_ANSWER", put)).may_be_applied
        # Its turn: it gets half of the time, and the other node does it.
        written = await both.put("kept", "named", "v", request_id="named", timeout=6)
        assert written.acked >= 2, written
        await driver("resume", 1)
        equal((await client.get("kept", "named")).text, "v", "one write")


async def one_endpoint(client):
    async with Client.connect(NODES[:1], timeout=6) as some:
        await some.put("kept", "lone", "v")
        await eventually("it goes on with others", functools.partial(goes_on, some))
        for number in range(6):
            await some.put("kept", f"lone-{number}", "v", request_id=f"lone-{number}")
            equal((await some.get("kept", "lone")).text, "v", "by another node")
        await driver("resume", 1)


async def goes_on(some):
    """Whether it can without the node that it was given, which is left paused then."""
    await some.get("kept", "lone")
    await driver("pause", 1)
    try:
        return (await some.get("kept", "lone")).siblings
    except (DeadlineExceeded, Unreachable):
        await driver("resume", 1)
        return None


async def dead_endpoint(client):
    async with asking([DEAD, *NODES[:2]]) as some:
        for number in range(6):
            await some.put("kept", f"dead-{number}", "v")
            equal((await some.get("kept", f"dead-{number}")).text, "v", "served elsewhere")
    async with asking([DEAD]) as none:
        error = await fails(Unreachable, "NOT_CONNECTED", none.put("kept", "k", "v"))
        assert not error.may_be_applied, error
    await fails(Refused, "BAD_ENDPOINT", bad_endpoint())


async def bad_endpoint():
    return Client.connect(["https://127.0.0.1:1"])


async def not_reached(alone):
    try:
        raise AssertionError(f"{await alone.put('cut', 'other', 'v', w=2, timeout=2)} by one node")
    except NotReached as error:
        return error
    except DeadlineExceeded:
        return None  # A busy machine: the node's answer came too late.


async def partition(client):
    async with asking(NODES[:2]) as near, asking([NODES[2]]) as far:
        before = await near.put("cut", "k", "before", w=3)
        await driver("cut", 3)
        await near.put("cut", "k", "majority", context=before.context)
        await far.put("cut", "k", "minority", context=before.context)
        error = await eventually("a put of two is refused", lambda: not_reached(far))
        equal((error.reason, error.needed), ("QUORUM_NOT_REACHED", 2), error)
        assert error.answered < 2 and error.effect == error.metadata["effect"], error
        sides = {"near": near, "far": far}
        writes = [(side, f"set-{key}") for side in sides for key in range(5)]
        await asyncio.gather(
            *(sides[side].update("cut", key, adding(side), settle=union) for side, key in writes)
        )
        await driver("heal", 3)

    async def sees(address, key, expected):
        async with asking([address]) as one:

            async def holds():
                return sorted((await one.get("cut", key)).values) == expected

            await eventually(f"{address} has both of {key}", holds)

    for address in NODES:
        await sees(address, "k", [b"majority", b"minority"])
        for key in range(5):
            await sees(address, f"set-{key}", [b"far", b"near"])
    for key in range(5):
        await client.update("cut", f"set-{key}", adding("after"), settle=union, w=3)
        read = await client.get("cut", f"set-{key}", r=3)
        equal(read.text, "after far near", "nothing acknowledged is lost")


async def kill(client):
    """Writers go on while a node dies, and stays dead."""
    acknowledged = []
    is_over = asyncio.Event()

    async def write(lane):
        for number in count():
            if is_over.is_set():
                return
            key = f"kill-{lane}-{number}"
            await client.put("kept", key, key, request_id=key)
            acknowledged.append(key)

    async def more(writers, goal):
        async def enough():
            for ended in (writer for writer in writers if writer.done()):
                ended.result()
            return len(acknowledged) >= goal

        await eventually("puts are acknowledged", enough)

    writers = [asyncio.ensure_future(write(lane)) for lane in range(4)]
    await more(writers, 40)
    await driver("kill", 1)
    await more(writers, len(acknowledged) + 100)
    is_over.set()
    await asyncio.gather(*writers)
    for key in acknowledged:
        equal((await client.get("kept", key)).text, key, "acknowledged")
    async with asking([NODES[0]]) as gone:
        await fails(Unreachable, "NOT_CONNECTED", gone.get("kept", "k"))


async def roles(client):
    """The last one, for the cluster serves nobody else from then on."""
    await client.put("kept", "guarded", "v")
    [token] = await driver("close", 2)

    async def is_closed(node):
        async with asking([node]) as nobody:
            try:
                await nobody.get("kept", "guarded")
            except NotAllowed as error:
                return error
        return None

    for node in NODES[1:]:
        closed = functools.partial(is_closed, node)
        error = await eventually(f"{node} serves only who has a role", closed)
        equal((error.reason, error.effect), ("NOT_KNOWN", "NONE"), error)
        async with asking([node], token=token) as reader:

            async def is_known():
                try:
                    return await reader.get("kept", "guarded")
                except NotAllowed:
                    return None

            equal((await eventually("the token is known", is_known)).text, "v", "by a reader")
            error = await fails(NotAllowed, "NOT_ALLOWED", reader.put("kept", "guarded", "w"))
            assert not error.may_be_applied, error


async def main():
    scenarios = (
        values, siblings, update_settled, update_merged, errors, request_ids, batches, lists,
        watches, quotas, ttl_and_labels, deadline, one_endpoint, dead_endpoint, partition, kill,
        roles,
    )  # fmt: skip
    async with Client.connect(NODES) as client:
        for scenario in scenarios:
            print(f"scenario {scenario.__name__}", flush=True)
            await scenario(client)


asyncio.run(main())
