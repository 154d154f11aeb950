"""What a process holds, as the kernel sees it: memory, file descriptors, threads, sockets."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

_STATES = {"01": "ESTABLISHED", "06": "TIME_WAIT", "08": "CLOSE_WAIT"}
_TABLES = ("tcp", "tcp6", "udp", "udp6", "unix")


class Held(NamedTuple):
    """What a process holds. Memory in KiB; sockets to one port of this machine by their state."""

    rss: int
    fds: int
    threads: int
    upstream: dict[str, int]


def rss_of(pid: int | None = None) -> int:
    """Return the resident memory of a process in KiB; of this one, where none is named."""
    return _status(pid or os.getpid(), "VmRSS")


def held_by(pid: int, upstream_port: int) -> Held:
    """Return what the process `pid` holds, and its connections to `upstream_port`."""
    sockets = Counter(_sockets(pid, upstream_port))
    fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return Held(rss_of(pid), fds, _status(pid, "Threads"), dict(sockets))


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` has started and that still run."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise LookupError(name)


def _sockets(pid: int, port: int) -> list[str]:
    """Return the state of each TCP connection of `pid` to `port`, and ``RESET`` for each socket the kernel has dropped.

    A pool of urllib3 notices a reset connection only when it is that one's turn, so some stay; no more than it holds.
    """
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(fd.readlink()))
        except OSError:
            continue  # closed since the folder was listed
    states = []
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == port and f"socket:[{fields[9]}]" in inodes:
            states.append(_STATES.get(fields[3], fields[3]))
    known = {f"socket:[{word}]" for name in _TABLES for word in Path(f"/proc/{pid}/net/{name}").read_text().split()}
    return states + ["RESET" for each in inodes if each.startswith("socket:") and each not in known]
