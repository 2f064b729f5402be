"""`cairn validate`: are the files right, each by itself and together? Needs no datastore."""

from collections import Counter

from bgpd.resources import ResourceSet, Severity, examine_alone
from ctl import options, state
from ctl.findings import refuse, warn
from ctl.output import Column, Format, Listing, show


def command(filename: options.Files = None, output: options.Output = Format.TABLE) -> None:
    """Check files of resources: kinds, fields, values, and together. Exit 4 if any is wrong.

    What the files refer to and do not hold may be in the datastore: `cairn diff -f` checks them against that.
    """
    resources = state.from_files(filename)
    findings = examine_alone(ResourceSet.of(resources))
    warn(findings)
    refuse(findings)
    counts = Counter(resource.KIND for resource in resources)
    warnings = [
        {"place": finding.place, "what": finding.what, "remedy": finding.remedy}
        for finding in findings
        if finding.severity is Severity.WARNING
    ]
    show(
        Listing(
            (Column("KIND"), Column("VALID")),
            [[kind, str(count)] for kind, count in sorted(counts.items())],
            {"valid": True, "resources": dict(sorted(counts.items())), "warnings": warnings},
            empty="the files hold no resource",
        ),
        output,
    )
