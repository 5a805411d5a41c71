"""This machine as its processes may use it: affinity and the limits of control groups counted.

Both versions of control groups are read (Linux's cgroups(7)): an outer group limits inner ones.
"""

import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")


def cores() -> int:
    """Count the cores that this process may use at once, rounded down, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)
    most = float(len(affinity(0)) if affinity else os.cpu_count() or 1)
    for group in _groups("cpu"):
        quota = _words(group / "cpu.max") or [
            *_words(group / "cpu.cfs_quota_us"),
            *_words(group / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and quota[0].isdecimal():  # neither max nor -1
            most = min(most, int(quota[0]) / int(quota[1]))
    return max(1, int(most))


def free_memory() -> int:
    """Count the bytes that are free for new processes, or can be made free."""
    lines = _words(MEMORY)
    free = int(lines[lines.index("MemAvailable:") + 1]) * 1024
    for group in _groups("memory"):
        for limit, used, idle in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            most, now = _words(group / limit), _words(group / used)
            if most and now and most[0].isdecimal():
                stat = _words(group / "memory.stat")
                cached = int(stat[stat.index(idle) + 1]) if idle in stat else 0
                free = min(free, int(most[0]) - int(now[0]) + cached)
    return max(0, free)


def _groups(controller: str) -> Iterator[Path]:
    """The directories of this process's control groups, from the inner to the outer ones."""
    for line in OWN.read_text().splitlines() if OWN.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = GROUPS / controller if controllers else GROUPS
        inner = root / path.lstrip("/")
        yield from (group for group in (inner, *inner.parents) if group.is_relative_to(root))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
