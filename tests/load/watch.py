"""What a process holds, as the kernel sees it: memory, file descriptors, threads, sockets."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_LISTEN = "0A"
_STATES = {"01": "ESTABLISHED", "06": "TIME_WAIT", "08": "CLOSE_WAIT"}


class Held(NamedTuple):
    """What a process holds. Memory in KiB.

    Attributes:
        pooled: its idle connections to Stack Auth by their state; ``RESET`` are those that the kernel has given up.
        stray: its other sockets, likewise; those that listen or are of no network aside.
    """

    rss: int
    fds: int
    threads: int
    pooled: Counter[str]
    stray: Counter[str]


def rss_of(pid: int | None = None) -> int:
    """Return the resident memory of a process in KiB; of this one, by default."""
    return _status(pid or os.getpid(), "VmRSS")


def held_by(pid: int, pooled: Collection[int]) -> Held:
    """Return what the process `pid` holds, where the sockets with the inodes `pooled` are in its pools."""
    fds = _fds(pid)
    inodes = {int(each[len("socket:[") : -1]) for each in fds if each.startswith("socket:[")}
    states = _states(pid)
    aside = {inode for inode, state in states.items() if state == _LISTEN} | _of_no_network(pid)
    states_by_inode = {
        inode: _STATES.get(states.get(inode, ""), states.get(inode, "RESET")) for inode in inodes - aside
    }
    return Held(
        rss_of(pid),
        len(fds),
        _status(pid, "Threads"),
        Counter(state for inode, state in states_by_inode.items() if inode in pooled),
        Counter(state for inode, state in states_by_inode.items() if inode not in pooled),
    )


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that still run."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise LookupError(name)


def _fds(pid: int) -> list[str]:
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since the folder was listed
            links.append(str(fd.readlink()))
    return links


def _states(pid: int) -> dict[int, str]:
    """Return the state of each TCP socket by its inode."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in _table(pid, name)]
    return {int(fields[9]): fields[3] for fields in lines}


def _of_no_network(pid: int) -> set[int]:
    return {int(line.split()[6]) for line in _table(pid, "unix")}


def _table(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
