"""A client in another language, made from the .proto files alone.

Usage: client.py CLIENT_ADDRESS ADMIN_ADDRESS

What a Python program does with Stator: put, conflict, siblings, resolve with contexts, delete,
errors with their details, deadlines. It fails with an AssertionError that says what differed.
"""

import sys

import grpc
from google.protobuf import field_mask_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from stator.v1 import admin_pb2, admin_pb2_grpc, keyspace_pb2, kv_pb2, kv_pb2_grpc

KEYSPACE = "python"


def step(text):
    print(f"  {text}", flush=True)


def equal(found, expected, what):
    assert found == expected, f"{what}: {found!r}, not {expected!r}"


class Refused:
    """The details of a failed call, by their types."""

    def __init__(self, error):
        self.code = error.code()
        self.message = error.details()
        self.info = self.fields = self.precondition = self.retry = None
        status = rpc_status.from_call(error)
        assert status is not None, f"no details: {self.code} {self.message}"
        kinds = {
            "info": error_details_pb2.ErrorInfo,
            "fields": error_details_pb2.BadRequest,
            "precondition": error_details_pb2.PreconditionFailure,
            "retry": error_details_pb2.RetryInfo,
        }
        for detail in status.details:
            for name, kind in kinds.items():
                if detail.Is(kind.DESCRIPTOR):
                    message = kind()
                    detail.Unpack(message)
                    setattr(self, name, message)


def refused(call, code, reason):
    """The details of `call`, which must fail with `code` and `reason`."""
    try:
        answer = call()
    except grpc.RpcError as error:
        details = Refused(error)
        assert details.info is not None, f"no ErrorInfo: {details.code} {details.message}"
        found = (details.code, details.info.reason)
        equal(found, (code, reason), details.message)
        equal(details.info.domain, "stator", "the domain")
        return details
    raise AssertionError(f"{reason} was expected, not {answer}")


class Keys:
    """One keyspace, with the calls written short."""

    def __init__(self, channel):
        self.kv = kv_pb2_grpc.KvStub(channel)

    def get(self, key, timeout=10, **fields):
        return self.kv.Get(kv_pb2.GetRequest(keyspace=KEYSPACE, key=key, **fields), timeout=timeout)

    def put(self, key, value, timeout=10, **fields):
        request = kv_pb2.PutRequest(keyspace=KEYSPACE, key=key, value=value, **fields)
        return self.kv.Put(request, timeout=timeout)

    def delete(self, key, timeout=10, **fields):
        request = kv_pb2.DeleteRequest(keyspace=KEYSPACE, key=key, **fields)
        return self.kv.Delete(request, timeout=timeout)


def values(answer):
    return sorted(version.value for version in answer.versions if not version.tombstone)


def put_and_get(keys):
    absent = keys.get(b"greeting")
    equal(len(absent.versions), 0, "versions of an absent key")
    assert absent.context, "an absent key has a context too"
    written = keys.put(b"greeting", b"hello", contexts=[absent.context], schema=3,
                       labels={"from": "python"}, ttl_ms=3_600_000)
    assert written.acked >= 2 and not written.siblings_remain, written
    read = keys.get(b"greeting")
    equal(values(read), [b"hello"], "the value")
    version = read.versions[0]
    equal((version.schema, dict(version.labels)), (3, {"from": "python"}), "schema and labels")
    equal(version.expires_at_ms - version.written_at_ms, 3_600_000, "the time to live")
    equal(list(version.dots), [written.dot], "the dot")
    assert read.answered >= 2 and read.ring_version >= 1, read
    # What the put answered is as good as another get.
    again = keys.put(b"greeting", b"good day", contexts=[written.context])
    assert not again.siblings_remain, again
    equal(values(keys.get(b"greeting")), [b"good day"], "the replaced value")


def conflict(keys):
    tea = keys.put(b"cart", b"tea")
    milk = keys.put(b"cart", b"milk")
    assert milk.siblings_remain, "two blind puts are siblings"
    assert not milk.HasField("context"), "a context would cover what the client has not seen"
    read = keys.get(b"cart")
    equal(values(read), [b"milk", b"tea"], "both are kept")
    equal(read.merge.sibling_count, 2, "the merge info")
    metadata = keys.get(b"cart", view=kv_pb2.VIEW_METADATA)
    equal(sorted(v.value_bytes for v in metadata.versions), [3, 4], "sizes")
    assert not any(v.HasField("value") for v in metadata.versions), "no values in the metadata"
    equal({dot for v in metadata.versions for dot in v.dots}, {tea.dot, milk.dot}, "the dots")


def resolve(keys):
    """Two readers saw one version each; who has both contexts replaces both."""
    one = keys.put(b"note", b"one")
    seen_one = one.context
    two = keys.put(b"note", b"two")
    assert two.siblings_remain, two
    seen_all = keys.get(b"note").context
    partly = keys.put(b"note", b"one, corrected", contexts=[seen_one])
    assert partly.siblings_remain, "what was not seen stays"
    equal(values(keys.get(b"note")), [b"one, corrected", b"two"], "after a partial context")
    seen_now = keys.get(b"note").context
    whole = keys.put(b"note", b"settled", contexts=[seen_one, seen_all, seen_now])
    assert not whole.siblings_remain, "the joined contexts cover all"
    equal(values(keys.get(b"note")), [b"settled"], "after all contexts")


def delete(keys):
    read = keys.get(b"cart")
    racing = keys.put(b"cart", b"jam")
    assert racing.siblings_remain, racing
    deleted = keys.delete(b"cart", contexts=[read.context])
    assert deleted.siblings_remain, "what the delete had not seen stays"
    siblings = keys.get(b"cart", view=kv_pb2.VIEW_SIBLINGS)
    equal(sorted(v.tombstone for v in siblings.versions), [False, True], "a value, a tombstone")
    equal(values(siblings), [b"jam"], "the racing put")
    keys.delete(b"cart", observed=True)
    gone = keys.get(b"cart")
    equal(values(gone), [], "after an observed delete")
    assert gone.context, "a deleted key has a context"


def retries(keys):
    first = keys.put(b"order", b"paid", request_id=b"order 7")
    retry = keys.put(b"order", b"paid", request_id=b"order 7")
    equal(retry.dot, first.dot, "a retry is the same write")
    equal(len(keys.get(b"order", view=kv_pb2.VIEW_SIBLINGS).versions), 1, "versions")
    details = refused(lambda: keys.put(b"order", b"refunded", request_id=b"order 7"),
                      grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    equal(details.info.metadata["dot"], first.dot, "which write has the id")
    equal(details.info.metadata["effect"], "NONE", "the effect")


def errors(keys, admin):
    details = refused(lambda: keys.get(b""), grpc.StatusCode.INVALID_ARGUMENT, "KEY_EMPTY")
    violation = details.fields.field_violations[0]
    equal(violation.field, "key", "the field of the BadRequest")
    assert "at least one byte" in violation.description, violation
    refused(lambda: keys.get(b"k", r=9), grpc.StatusCode.INVALID_ARGUMENT, "BAD_QUORUM")
    refused(lambda: keys.put(b"k", b"v", contexts=[b"forged"]),
            grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_FORGED")
    details = refused(lambda: keys.delete(b"k"), grpc.StatusCode.INVALID_ARGUMENT,
                      "CONTEXT_MISSING")
    assert "observed" in details.message, details.message
    details = refused(
        lambda: keys.kv.Get(kv_pb2.GetRequest(keyspace="nowhere", key=b"k"), timeout=10),
        grpc.StatusCode.NOT_FOUND, "UNKNOWN_KEYSPACE")
    equal(details.info.metadata["keyspace"], "nowhere", "the metadata")
    request = keyspace_pb2.UpdateKeyspaceRequest(
        keyspace=keyspace_pb2.Keyspace(name=KEYSPACE, w=3, etag="stale"),
        update_mask=field_mask_pb2.FieldMask(paths=["w"]))
    details = refused(lambda: admin.UpdateKeyspace(request, timeout=10),
                      grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    equal(details.info.metadata["expected"], "stale", "the etag")


def deadline(keys, admin):
    """A node that is cut off says so before the deadline, and whether it did anything."""
    admin.SetFault(admin_pb2.SetFaultRequest(isolated=True), timeout=10)
    try:
        keys.put(b"alone", b"v", w=3, quorum=kv_pb2.QUORUM_STRICT, timeout=1)
        raise AssertionError("one node is not three")
    except grpc.RpcError as error:
        details = Refused(error)
        equal(details.info.reason, "QUORUM_NOT_REACHED", details.message)
        effect = details.info.metadata["effect"]
        expected = {"NONE": grpc.StatusCode.UNAVAILABLE,
                    "MAYBE": grpc.StatusCode.DEADLINE_EXCEEDED}[effect]
        equal(details.code, expected, f"the code of effect {effect}")
        equal(details.info.metadata["needed"], "3", "how many were needed")
    finally:
        admin.SetFault(admin_pb2.SetFaultRequest(isolated=False), timeout=10)


def main():
    client, admin = (grpc.insecure_channel(address) for address in sys.argv[1:3])
    with client, admin:
        keys, operator = Keys(client), admin_pb2_grpc.AdminStub(admin)
        step("put and get, with schema, labels and time to live")
        put_and_get(keys)
        step("two blind puts are a conflict, and both are kept")
        conflict(keys)
        step("several contexts replace what each of them has seen")
        resolve(keys)
        step("a delete deletes what was seen, and nothing that was not")
        delete(keys)
        step("a retry with the same request id is one write")
        retries(keys)
        step("errors have a reason, metadata and the field")
        errors(keys, operator)
        step("a node that is cut off answers before the deadline")
        deadline(keys, operator)


if __name__ == "__main__":
    main()
