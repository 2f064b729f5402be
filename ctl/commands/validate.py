"""`cairn validate`: are the files right? Needs no datastore."""

from collections import Counter

from ctl import options, state
from ctl.output import Column, Format, Listing, show


def command(filename: options.Files = None, output: options.Output = Format.TABLE) -> None:
    """Check files of resources: kinds, fields, values; each fault with its line. Exit 4 if there is any."""
    resources = state.from_files(filename)
    counts = Counter(resource.KIND for resource in resources)
    show(
        Listing(
            (Column("KIND"), Column("VALID")),
            [[kind, str(count)] for kind, count in sorted(counts.items())],
            {"valid": True, "resources": dict(sorted(counts.items()))},
            empty="the files hold no resource",
        ),
        output,
    )
