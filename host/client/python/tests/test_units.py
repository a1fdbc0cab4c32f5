"""What can be told without a node: `tests/clients` of the repository has the rest."""

import asyncio
import unittest

from google.rpc import error_details_pb2 as rpc
from google.rpc import status_pb2
from stator_client.kv_pb2 import GetResponse, Version
from stator_client.routing_pb2 import GetRingResponse

from stator_client import (
    Client,
    Conflict,
    DeadlineExceeded,
    LimitReached,
    NotReached,
    Overloaded,
    QuotaExceeded,
    Refused,
    StatorError,
    Unavailable,
    Unreachable,
)
from stator_client.errors import Code, error_of, told_by
from stator_client.pace import Pace
from stator_client.peer import _exact
from stator_client.retry import PAUSE_MAX, Budget, is_worth_it, pause
from stator_client.routes import Ring, partition_of
from stator_client.values import versions
from stator_client.watch import Known


def said(code, reason=None, metadata=None, *more):
    """An error as a node gives it; without a reason as nobody does."""
    status = status_pb2.Status()
    if reason is not None:
        info = rpc.ErrorInfo(reason=reason, domain="stator", metadata=metadata or {})
        more = (info, *more)
    for detail in more:
        status.details.add().Pack(detail)
    return error_of(told_by(code, "words", status.SerializeToString()))


class Ways(unittest.TestCase):
    def test_keys_lie_where_the_published_vectors_say(self):
        for keyspace, key, position in [
            (0, b"", 0x45D330A2BB529958760647A5809156AC),
            (1, b"a", 0x0156A4075B43F3B4CF76AA072E1B1E3B),
            (0x0123456789ABCDEF, b"cart:17850", 0x07E3003489EAC530104DFD9A5DA6785B),
            (2**64 - 1, b"\x00\xff\x80", 0x42DC147506772F01608C7D671FD4BCA2),
        ]:
            for bits in (0, 1, 8, 16):
                self.assertEqual(partition_of(keyspace, key, 1 << bits), position >> 128 - bits)

    def test_a_ring_is_read_whole_or_not_at_all(self):
        told = GetRingResponse(etag="e")
        ring = told.ring
        ring.version, ring.partitions, ring.position_hash = 3, 2, 1
        for port in (1, 2, 3):
            ring.members.add(client_address=f"n:{port}")
        ring.packed_owners = bytes([2, 0, 0, 0, 1, 2, 0, 2, 0, 0])
        ring.keyspaces.add(name="k", id=f"{1:016x}", n=1)
        # The position of (1, "a") begins with 0x01.
        self.assertEqual(Ring.read(told).owners_of("k", b"a"), ["n:1"])
        self.assertEqual(Ring.read(told).owners_of("other", b"a"), [])
        for field, wrong in [
            ("position_hash", 2),
            ("partitions", 4),
            ("packed_owners", bytes([1, 0, 3, 1, 0, 0])),
            ("packed_owners", bytes([2, 0, 0, 0, 1, 2, 0])),
        ]:
            other = GetRingResponse()
            other.CopyFrom(told)
            setattr(other.ring, field, wrong)
            self.assertIsNone(Ring.read(other), field)

    def test_who_is_slow_or_has_much_to_do_costs_more(self):
        slow, fast, new = Pace(), Pace(), Pace()
        for pace, took in ((slow, 0.1), (fast, 0.01)):
            pace.asked()
            pace.ended(1.0, took, False)
        self.assertLess(new.cost(1.0), fast.cost(1.0))
        self.assertLess(fast.cost(1.0), slow.cost(1.0))
        for _ in range(20):
            fast.asked()
        self.assertLess(slow.cost(1.0), fast.cost(1.0))
        # It is tried again some time.
        self.assertLess(slow.cost(100.0), 0.001)
        new.asked()
        new.ended(1.0, 0.2, True)
        self.assertGreaterEqual(new.cost(1.0), 1.0)


class Errors(unittest.TestCase):
    def test_class_reason_and_effect(self):
        soon = rpc.RetryInfo()
        soon.retry_delay.FromMilliseconds(7)
        table = [
            (said(Code.UNAVAILABLE, "QUORUM_NOT_REACHED", {"effect": "NONE"}), NotReached, False),
            (
                said(Code.DEADLINE_EXCEEDED, "QUORUM_NOT_REACHED", {"effect": "MAYBE"}),
                NotReached,
                True,
            ),
            (said(Code.UNAVAILABLE, "NEWER", {"effect": "something newer"}), Unavailable, True),
            (said(Code.NOT_FOUND, "UNKNOWN_MODULE"), Refused, False),
            (said(Code.DEADLINE_EXCEEDED, "STOPPING", {"effect": "MAYBE"}), Unavailable, True),
            (said(Code.RESOURCE_EXHAUSTED, "TOO_MANY_SIBLINGS"), LimitReached, False),
            (said(Code.RESOURCE_EXHAUSTED, "OVERLOADED", None, soon), Overloaded, False),
            (said(Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED"), QuotaExceeded, False),
            (said(Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", None, soon), QuotaExceeded, False),
            (said(Code.UNAVAILABLE), Unreachable, True),
            (said(Code.INTERNAL), Unreachable, True),
            (said(Code.DEADLINE_EXCEEDED), DeadlineExceeded, True),
            (said(Code.RESOURCE_EXHAUSTED), Unreachable, True),
            (said(Code.DATA_LOSS), StatorError, True),
        ]
        for error, kind, may_be_applied in table:
            self.assertIs(type(error), kind, error)
            self.assertEqual(error.may_be_applied, may_be_applied, error)

    def test_details(self):
        bad = rpc.BadRequest()
        bad.field_violations.add(field="key", description="too long")
        soon = rpc.RetryInfo()
        soon.retry_delay.FromMilliseconds(7)
        error = said(Code.INVALID_ARGUMENT, "KEY_TOO_LARGE", {"a": "b"}, bad, soon)
        self.assertEqual((error.violations[0].subject, error.metadata["a"]), ("key", "b"))
        self.assertEqual((error.retry_after, str(error)), (0.007, "words [KEY_TOO_LARGE]"))

    def test_who_is_no_node_gives_no_reason(self):
        info = rpc.ErrorInfo(reason="QUORUM_NOT_REACHED", domain="elsewhere")
        self.assertEqual(said(Code.UNAVAILABLE, None, None, info).reason, "NO_ANSWER")
        self.assertEqual(said(Code.NOT_FOUND).reason, "")


class Retries(unittest.TestCase):
    def test_a_write_is_repeated_only_if_the_first_did_nothing(self):
        soon = rpc.RetryInfo()
        table = [
            (said(Code.UNAVAILABLE, "R", {"effect": "NONE"}), True, True),
            (said(Code.UNAVAILABLE), False, True),
            (said(Code.DEADLINE_EXCEEDED, "R", {"effect": "MAYBE"}), False, True),
            (said(Code.RESOURCE_EXHAUSTED, "R", None, soon), True, True),
            (said(Code.RESOURCE_EXHAUSTED, "R", {"effect": "NONE"}), False, False),
            (said(Code.FAILED_PRECONDITION, "NODE_REMOVED", {"effect": "NONE"}), True, True),
            (said(Code.INVALID_ARGUMENT, "R"), False, False),
            (said(Code.INTERNAL, "R"), False, False),
            (said(Code.INTERNAL), False, True),
            (said(Code.RESOURCE_EXHAUSTED), False, True),
            (said(Code.ABORTED, "R"), False, False),
        ]
        for error, once, repeatable in table:
            self.assertEqual(is_worth_it(error, False), once, error)
            self.assertEqual(is_worth_it(error, True), repeatable, error)

    def test_pauses_grow_to_a_bound_and_honour_what_is_asked(self):
        for attempt in range(1, 50):
            most = min(0.025 * 2 ** (attempt - 1), PAUSE_MAX)
            self.assertTrue(most / 2 <= pause(attempt, None) <= most, attempt)
        self.assertGreater(pause(1, PAUSE_MAX), PAUSE_MAX)

    def test_retries_are_a_tenth_of_the_requests(self):
        def taken(budget, now):
            return sum(budget.take(now) for _ in range(2_000))

        budget = Budget(0.0)
        self.assertEqual(taken(budget, 0.0), 100)
        for _ in range(500):
            budget.request()
        self.assertIn(taken(budget, 0.0), (49, 50))
        self.assertEqual(taken(budget, 2.0), 20)
        self.assertEqual(taken(budget, 1_000.0), 100)

    def test_a_node_is_not_told_more_time_than_there_is(self):
        for seconds, told in [(9.9996, 9.99), (0.4999, 0.499), (12.34, 12.3), (-1.0, 0.001)]:
            self.assertAlmostEqual(_exact(seconds), told)


class Values(unittest.TestCase):
    def test_siblings_have_no_one_value(self):
        two = GetResponse(versions=[Version(value=b"a"), Version(value=b"b")], context=b"seen")
        read = versions("k", b"key", two)
        self.assertEqual((read.values, read.context), ((b"a", b"b"), b"seen"))
        with self.assertRaises(Conflict):
            read.value

    def test_an_answer_without_context_replaces_nothing(self):
        with self.assertRaises(Refused) as raised:
            versions("k", b"key", GetResponse(versions=[Version(value=b"")])).context
        self.assertEqual(raised.exception.reason, "NO_CONTEXT")

    def test_endpoints(self):
        for endpoint in ("http://node:1", "[::1]:1", "127.0.0.1:1"):
            Client.connect([endpoint])
        for endpoint in ("https://node:1", "node", "not an:address", "ftp://node:1"):
            with self.assertRaises(Refused):
                Client.connect([endpoint])
        with self.assertRaises(Refused):
            Client.connect([])


class Watches(unittest.TestCase):
    def test_each_state_is_told_once_and_none_goes_back(self):
        def now(*values):
            made = [Version(value=value, dots=[str(value)]) for value in values]
            return versions("k", b"key", GetResponse(versions=made))

        known = Known()
        first, second = {"a": 1}, {"a": 1, "b": 1}
        self.assertTrue(known.is_new(now(b"1"), first, first, b"h1"))
        self.assertTrue(known.was_told(b"key", first, b"h1"))
        self.assertFalse(known.was_told(b"key", second, b"h2"))
        self.assertTrue(known.is_new(now(b"2"), second, second, b"h2"))
        self.assertTrue(known.was_told(b"key", first, b"h1"), "by one that is behind")
        self.assertFalse(known.is_new(now(b"1"), first, first, b"h1"))
        self.assertFalse(known.was_told(b"key", {"c": 1}, b"h3"), "a concurrent write")
        # It ended, or was folded: nothing else was seen.
        self.assertFalse(known.was_told(b"key", second, b"h4"))
        self.assertTrue(known.is_new(now(), second, second, b"h4"))
        self.assertFalse(known.is_new(now(), {}, second, b"h4"), "forgotten")

    def test_a_token_reads_back_and_that_of_other_keys_does_not(self):
        async def main():
            async with Client.connect(["127.0.0.1:1"]) as client:
                watch = client.watch("carts", prefix="c")
                watch._positions, watch._page = {"a": "0.ff/2b/17.6b", "b": "1"}, "12.6b"
                again = client.watch("carts", prefix="c", resume=watch.token)
                self.assertEqual((again._positions, again._page), (watch._positions, "12.6b"))
                for token in ("", "p1", "w1:00,a:1", watch.token.replace("p1:", "p1:0")):
                    with self.assertRaises(Refused):
                        client.watch("carts", prefix="c", resume=token)
                with self.assertRaises(Refused):
                    client.watch("carts", key="c", resume=watch.token)

        asyncio.run(main())


if __name__ == "__main__":
    unittest.main()
