"""Where declared state lives: etcd, or a directory of YAML files. One interface, see `store`.

Only this package and the adapters of the services do I/O. Nothing here knows what a resource means; that
is `plan`'s.
"""

import bgpd.datastore.grpc_log  # noqa: F401  before anything imports gRPC
from bgpd.datastore.errors import (
    Absent,
    Conflict,
    DatastoreError,
    Denied,
    Misconfigured,
    TooLarge,
    Unavailable,
)
from bgpd.datastore.interests import EVERYTHING, Interests
from bgpd.datastore.last_good import LastGood
from bgpd.datastore.location import open_datastore
from bgpd.datastore.secrets import SecretError, Secrets
from bgpd.datastore.store import (
    Change,
    Changes,
    Create,
    Datastore,
    Delete,
    Entry,
    Health,
    Hold,
    Invalid,
    Snapshot,
    Update,
    Write,
)
from bgpd.datastore.unread import Unread

__all__ = [
    "EVERYTHING",
    "Absent",
    "Change",
    "Changes",
    "Conflict",
    "Create",
    "Datastore",
    "DatastoreError",
    "Delete",
    "Denied",
    "Entry",
    "Health",
    "Hold",
    "Interests",
    "Invalid",
    "LastGood",
    "Misconfigured",
    "SecretError",
    "Secrets",
    "Snapshot",
    "TooLarge",
    "Unavailable",
    "Unread",
    "Update",
    "Write",
    "open_datastore",
]
