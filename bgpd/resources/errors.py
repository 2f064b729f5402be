"""What is said when declared state is wrong: the place, what is wrong there, and what would put it right.

One error type serves files and the datastore. ``place`` is what an operator can go to: ``peers.yaml:12`` with
the resource and field for a file, the etcd path and field for a stored value. ``also`` carries the further
faults of the same input, so that a file with three mistakes is corrected once, not three times.
"""

from collections.abc import Iterable


class ResourceError(ValueError):
    """Declared state that cannot be accepted; nothing that worked before is touched by it.

    ``place``, ``what`` and ``remedy`` are plain text (``remedy`` may be empty); ``also`` are more errors of
    the same input. ``str()`` gives one line per error.
    """

    def __init__(self, place: str, what: str, remedy: str = "", also: Iterable["ResourceError"] = ()) -> None:
        super().__init__(place, what, remedy)
        self.place = place
        self.what = what
        self.remedy = remedy
        self.also = tuple(also)

    def __str__(self) -> str:
        first = f"{self.place}: {self.what}" + (f"; {self.remedy}" if self.remedy else "")
        return "\n".join([first, *map(str, self.also)])


def joined(errors: Iterable[ResourceError]) -> ResourceError:
    """Make one error of several (at least one): the first, with the others in ``also``."""
    first, *others = errors
    return ResourceError(first.place, first.what, first.remedy, also=(*first.also, *others))
