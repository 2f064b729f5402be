"""The rebuilt stubs: fails when the installed etcd3 is no longer the one they were made for."""

from hashlib import sha256
from importlib import import_module
from importlib.metadata import version

import pytest

from bgpd.datastore.etcd_stubs import (
    WATCH_PROGRESS_REQUEST,
    kv,
    rpc,
    serialized_descriptor,
    services,
    stub_directory,
)

DIGESTS = {"kv_pb2": "a62150b68e25f6cc", "auth_pb2": "e2eaf2c37b87a49e", "rpc_pb2": "1cd49d58318d8a69"}


def test_the_package_is_the_known_one() -> None:
    assert version("etcd3") == "0.12.0"
    digests = {
        name: sha256(serialized_descriptor(stub_directory() / f"{name}.py")).hexdigest()[:16]
        for name in ("kv_pb2", "auth_pb2", "rpc_pb2")
    }
    assert digests == DIGESTS


def test_the_package_itself_works_on_them() -> None:
    etcd3 = import_module("etcd3")  # not before our stubs
    assert etcd3.etcdrpc.RangeRequest is rpc.RangeRequest
    assert etcd3.client  # its import succeeded


def test_messages_round_trip() -> None:
    response = rpc.WatchResponse(watch_id=3, events=[kv.Event(type="DELETE", kv=kv.KeyValue(key=b"a"))])
    again = rpc.WatchResponse.FromString(response.SerializeToString())
    assert again == response
    assert again.events[0].type == kv.Event.DELETE
    assert WATCH_PROGRESS_REQUEST.SerializeToString() == b"\x1a\x00"
    for name in ("KVStub", "WatchStub", "LeaseStub", "AuthStub"):
        assert hasattr(services, name)


def test_another_package_is_noticed(tmp_path: object) -> None:
    with pytest.raises(ImportError, match="etcd3 0"):
        serialized_descriptor(stub_directory() / "__init__.py")
