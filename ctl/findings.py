"""What is wrong between resources, told by commands that change or check them.

A change is refused for errors it brings in, not for those that are there already: otherwise nothing could be
put right step by step. Warnings are told and stop nobody.
"""

import sys
from collections.abc import Iterable, Sequence

from bgpd.resources import Finding, ResourceSet, Severity, examine
from ctl.exits import ExitCode, Failure
from ctl.terminal import visible


def brought_in(before: ResourceSet, after: ResourceSet) -> list[Finding]:
    """What a change makes wrong that was not wrong before."""
    known = set(examine(before))
    return [finding for finding in examine(after) if finding not in known]


def warn(findings: Iterable[Finding]) -> None:
    """Tell warnings on standard error."""
    for finding in findings:
        if finding.severity is Severity.WARNING:
            sys.stderr.write(f"cairn: {visible(str(finding))}\n")


def refuse(findings: Sequence[Finding]) -> None:
    """Fail if there are errors, telling all of them."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return
    if len(errors) == 1:
        raise Failure(ExitCode.INVALID, errors[0].what, where=errors[0].place, remedy=errors[0].remedy)
    lines = "".join(f"\n  {finding.place}: {finding.what}; {finding.remedy}" for finding in errors)
    raise Failure(ExitCode.INVALID, f"{len(errors)} faults between resources, so nothing was done{lines}")
