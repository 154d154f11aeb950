"""What routers make of a path: which paths they read differently from one another, and what each is then taken for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from urllib.parse import unquote

_LONG, _MANY = 1024, 64
"""Characters, and readings, above which a doubtful path is taken to reach every rule: strangers choose the work."""
_DOUBTFUL = re.compile(
    r"""
      \A(?!/)                             # does not start with a slash
    | //                                  # an empty segment, which some routers drop
    | /\.{1,2}(?:[/;]|\Z)                 # a dot segment, with or without parameters
    | [\\\0\ufffd]                        # another separator, a terminator, octets that are no UTF-8
    | %(?:25)*(?:2[eEfF]|5[cC])           # a separator or dot that is still encoded
    """,
    re.VERBOSE,
)
_AROUND = re.compile(r"\A[\0- ]*(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?|[?#].*", re.DOTALL)
"""What a URL has before and behind its path, but for host and parameters."""
_CONTROLS = re.compile(r"[\1-\x1f]")
_NO_CHARACTER = re.compile(r"[\0\ufffd]")


def below(path: str, root_path: str) -> str:
    """Return `path` less `root_path`, where that stands at its start on a segment boundary."""
    root_path = root_path.rstrip("/")
    if root_path and (path == root_path or path.startswith(root_path + "/")):
        return path[len(root_path) :] or "/"
    return path


def is_doubtful(path: str, root_path: str) -> bool:
    """Say whether routers are known to read `path` differently from one another."""
    root_path = root_path.rstrip("/")
    return bool(_DOUBTFUL.search(path) or (root_path and root_path in below(path, root_path)))


def normal(path: str) -> str:
    """Drop empty segments, and so the trailing slash."""
    return "/" + "/".join(filter(None, path.split("/")))


def readings(path: str, root_path: str) -> set[str] | None:
    """Return the paths that some router could take a doubtful one for, but for what any depth of it covers.

    None where they are too many to try: it could be taken for all that there is.
    """
    if len(path) > _LONG:
        return None
    made = _readings(path, root_path)
    some = set(islice(made, _MANY))
    return some if next(made, None) is None else None


def _readings(path: str, root_path: str) -> Iterator[str]:
    yield "/"
    yield "/" + path  # to Falcon an empty segment is a parameter's value
    root_path = root_path.rstrip("/")
    for text in _spellings(path):
        cuts = {text}
        if root_path:  # anywhere: Litestar goes on behind the first one, in the middle of a segment too
            cuts |= {*text.split(root_path), *text.split(root_path, 1)}
            cuts |= {text.replace(root_path, ""), text.replace(root_path, "", 1)}
        for cut in cuts:
            named = [each for each in cut.split("/") if each]
            undotted = [each for each in named if each.partition(";")[0] != "."]
            yield from ("/" + "/".join(segments) for segments in (named, undotted, _resolved(undotted)))


def _spellings(path: str) -> set[str]:
    """Return what `path` becomes decoded once or twice more, with other separators, or without what is no character."""
    texts = {path, unquote(path), unquote(unquote(path))}
    texts |= {_CONTROLS.sub("", text) for text in texts}
    if not path.startswith("/"):  # Quart parses it as a URL
        texts |= {_AROUND.sub("", text) for text in texts}
        texts |= {re.sub(r";[^/]*\Z", "", text) for text in texts}
    texts |= {text.partition("\0")[0] for text in texts}
    texts |= {text.replace("\ufffd", "") for text in texts}  # Bottle decodes so
    texts |= {text.replace("\\", "/") for text in texts}
    texts |= {_NO_CHARACTER.sub("/", text) for text in texts}
    return texts


def _resolved(segments: list[str]) -> list[str]:
    resolved: list[str] = []
    for segment in segments:
        if segment.partition(";")[0] == "..":
            del resolved[-1:]
        else:
            resolved.append(segment)
    return resolved
