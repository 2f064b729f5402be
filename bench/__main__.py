"""`python -m bench`: measure, print a table, keep the ratios.

./run bench                         the reflector, beside every rival installed
./run bench reflector --quick       a minute, to see that it works
./run bench reflector --only cluster,table --rivals bird,frr --repeat 3
./run bench reflector --only scale --json bench/results/scale.json --charts docs/img
./run bench agent --only change,join --json bench/results/agent.json
./run bench plan                    what planning costs at 1,000 nodes (no rivals, no root)
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bench import plan
from bench.agent import report as agent_report
from bench.namespace import NamespaceError, enter
from bench.reflector import report


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="./run bench", description="Measure Cairn beside its rivals, in one run."
    )
    top.add_argument("what", nargs="?", default="reflector", choices=("reflector", "agent"))
    top.add_argument(
        "--only", metavar="CASES", help="cases whose names start with one of these words (comma separated)"
    )
    top.add_argument(
        "--rivals", metavar="NAMES", help="bird,frr,openbgpd,gobgp (default: all installed), or none"
    )
    top.add_argument("--without-cairn", action="store_true", help="the rivals alone")
    top.add_argument("--quick", action="store_true", help="a small load, once")
    top.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="repetitions of every case (default 3)"
    )
    top.add_argument("--json", type=Path, metavar="FILE", help="write figures and ratios there")
    top.add_argument("--charts", type=Path, metavar="DIR", help="draw SVG charts there")
    top.add_argument(
        "--debian-root", type=Path, metavar="DIR", help="take the rivals from another system's root"
    )
    return top


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["plan"]:
        return plan.main(arguments[1:])
    options = parser().parse_args(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # services start from bytecode, as installed ones do
    try:
        status = enter(arguments)
    except NamespaceError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if status is not None:
        return status
    if options.what == "agent":
        return agent_report.run(
            agent_report.Options(
                only=tuple(options.only.split(",")) if options.only else (),
                rivals=tuple(options.rivals.split(",")) if options.rivals else None,
                with_cairn=not options.without_cairn,
                quick=options.quick,
                repeat=1 if options.quick else max(1, options.repeat),
                json=options.json,
                charts=options.charts,
            )
        )
    return report.run(
        report.Options(
            what=options.what,
            only=tuple(options.only.split(",")) if options.only else (),
            rivals=tuple(options.rivals.split(",")) if options.rivals else None,
            with_cairn=not options.without_cairn,
            quick=options.quick,
            repeat=1 if options.quick else max(1, options.repeat),
            json=options.json,
            charts=options.charts,
            debian_root=options.debian_root.resolve() if options.debian_root else None,
        ),
        os.environ,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
