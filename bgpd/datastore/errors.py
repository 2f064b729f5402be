"""What can go wrong between us and a store, as one small tree.

    DatastoreError            something is wrong; the text names the place and the remedy
    ├── Unavailable           no answer now; the same request may succeed later
    │   └── Absent            there is no such directory yet; the first write makes it
    ├── Denied                the store answered, and said no: certificate, password, permission
    ├── Conflict              compare-and-swap failed: somebody else wrote, or the thing (does not) exist
    ├── TooLarge              more writes than the store takes in one transaction
    └── Misconfigured         the location or its options make no sense

A *watch* raises none of these: it goes on for ever and says in its `Health` what keeps it from being current.
A single undecodable value is no error either but an `Invalid` beside the good ones.
"""

from bgpd.resources import Key


class DatastoreError(Exception):
    """Base of every error a store raises."""


class Unavailable(DatastoreError):
    """No endpoint gave an answer in time."""


class Absent(Unavailable):
    """There is nothing at the location of an embedded store."""


class Denied(DatastoreError):
    """The store refused us: wrong certificate, user, password or missing permission."""


class Misconfigured(DatastoreError):
    """A datastore location or option that cannot work."""


class TooLarge(DatastoreError):
    """More writes than fit one transaction; nothing was written."""


class Conflict(DatastoreError):
    """A compare-and-swap found something else than it expected.

    `expected` and `found` are revisions, None meaning "does not exist". Of the failed transaction nothing was
    written; `committed` counts the writes of earlier transactions when a commit was allowed to take several.
    """

    def __init__(self, key: Key, expected: int | None, found: int | None, committed: int = 0) -> None:
        self.key = key
        self.expected = expected
        self.found = found
        self.committed = committed
        name = f"{key.namespace}/{key.name}" if key.namespace else key.name
        if expected is None:
            what = "exists already"
        elif found is None:
            what = "does not exist any more"
        else:
            what = "was changed by somebody else since it was read"
        tail = f" ({committed} earlier writes were committed)" if committed else ""
        super().__init__(f"{key.kind} {name} {what}; read it again and repeat{tail}")
