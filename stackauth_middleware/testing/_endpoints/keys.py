"""The endpoint of the key set."""

from __future__ import annotations

from .._context import Context, endpoint
from .._responses import PlainError, Response, server_fault
from .._schema import Field, one_of

_FLAGS = {name: Field(one_of("true", "false")) for name in ("include_anonymous", "include_restricted")}


def key_set(context: Context) -> Response:
    query = context.read(query=_FLAGS)
    project_id = context.params["project_id"]
    if "\0" in project_id:  # the database rejects such text
        raise server_fault()
    if context.store.projects.get(project_id) is None:
        raise PlainError(404, "Project not found")
    restricted, anonymous = (query.get(f"include_{each}") == "true" for each in ("restricted", "anonymous"))
    document = context.store.issuer.key_set(project_id, restricted=restricted, anonymous=anonymous)
    return context.json(document, cache_control="public, max-age=3600")


ENDPOINTS = (endpoint("jwks", "GET", "/projects/{project_id}/.well-known/jwks.json", key_set, access=()),)
