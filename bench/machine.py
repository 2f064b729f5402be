"""What a reader must know about the machine a figure was taken on, and nothing that names it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path


def describe() -> dict[str, str | int | float]:
    """Processor, cores, memory (GB), kernel release, Python; no host name, no paths."""
    processor = re.search(r"^model name\s*: (.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    release = re.match(r"[\d.]+", platform.release())
    return {
        "processor": processor.group(1).strip() if processor else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory.group(1)) / 1e6, 1) if memory else 0,
        "kernel": release.group(0).rstrip(".") if release else "",
        "python": platform.python_version(),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
