"""etcd3 0.12.0's gRPC stubs, made to work on a protobuf of today.

The package ships message classes generated years ago; protobuf 4 and later refuse to build them. The
serialized descriptors inside those files are still good, so they are read out (as text, nothing is
executed), put into the descriptor pool, and the message modules rebuilt from them the way today's
generated code does it. Registered under their own names before `etcd3` is first imported, they serve the
package's own code and ours alike.

The only side effect of importing this module is that registration; it must therefore be the first to
import etcd3, and everything else takes the stubs from here. Left out: pinning an end-of-life protobuf,
and copies of the files.
"""

import ast
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.internal import builder

_PACKAGE = "etcd3.etcdrpc"
_MODULES = ("kv_pb2", "auth_pb2", "rpc_pb2")  # each needs the ones before it


def serialized_descriptor(path: Path) -> bytes:
    """The `serialized_pb` literal of one generated file. Raises ImportError when there is none."""
    found = re.search(r"serialized_pb=(?:_b\()?(b?(['\"]).*\2)", path.read_text(encoding="utf-8"))
    if found is not None:
        value = ast.literal_eval(found[1])
        return value.encode("latin1") if isinstance(value, str) else bytes(value)
    raise ImportError(f"{path} holds no serialized descriptor; is this etcd3 0.12.0?")


def stub_directory() -> Path:
    """Where the package's generated files are, found without importing it."""
    spec = importlib.util.find_spec("etcd3")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the package etcd3 is not installed")
    return Path(spec.submodule_search_locations[0]) / "etcdrpc"


def _rebuild() -> None:
    directory = stub_directory()
    for name in _MODULES:
        full_name = f"{_PACKAGE}.{name}"
        if full_name in sys.modules:
            continue
        module = ModuleType(full_name)
        file = descriptor_pool.Default().AddSerializedFile(serialized_descriptor(directory / f"{name}.py"))
        names: dict[str, Any] = module.__dict__
        names["DESCRIPTOR"] = file
        builder.BuildMessageAndEnumDescriptors(file, names)
        builder.BuildTopDescriptorsAndMessages(file, full_name, names)
        sys.modules[full_name] = module


_rebuild()
kv: Any = importlib.import_module(f"{_PACKAGE}.kv_pb2")
rpc: Any = importlib.import_module(f"{_PACKAGE}.rpc_pb2")
services: Any = importlib.import_module(f"{_PACKAGE}.rpc_pb2_grpc")

# etcd 3.4 added WatchProgressRequest (field 3 of WatchRequest), which these descriptors do not know. An
# unknown field survives parsing and serializing, so the request can be written all the same.
WATCH_PROGRESS_REQUEST: Any = rpc.WatchRequest.FromString(b"\x1a\x00")
