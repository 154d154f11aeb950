"""Teams and their members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any, TypedDict

from ..frozen import freeze
from ..sealed import Sealed, conceal, seal, sealed_of
from ..user_profile import text as text_or_none
from .record import NO_MEMBERS, Record, items_of, sealed_members, seconds_of, text_of
from .request import Request, UnreadableError, ignore
from .values import UNSET, Unset, body_of, json, or_none, text, uuid


@dataclass(frozen=True, slots=True, eq=False)
class Team(Record):
    """A team (docs/stack-auth.md section 12). Deeply immutable, hashable.

    The fields are what Stack Auth shows to clients; encoders and `repr` see nothing else.

    Attributes:
        id: id of the team, a UUID as text.
        display_name: name. Untrusted text: members may change it.
        profile_image_url: address of an image, or None. Untrusted text.
        client_metadata: JSON value that members can write. Untrusted.
        client_read_only_metadata: JSON value that members can read and servers can write.

    Example::

        names = [team.display_name for team in client.list_teams(user.user_id)]
    """

    id: str
    display_name: str
    profile_image_url: str | None
    client_metadata: Any
    client_read_only_metadata: Any
    _sealed: InitVar[Sealed | None] = field(default=NO_MEMBERS, kw_only=True)

    def __post_init__(self, _sealed: Sealed | None = None) -> None:  # noqa: RUF033 - decoders pass nothing
        seal(self, _sealed, NO_MEMBERS, is_typed=True)

    @property
    def created_at(self) -> float | None:
        """Time of creation, seconds since the epoch, or None. Server-only."""
        at: float | None = sealed_of(self).get("created_at")
        return at

    @property
    def server_metadata(self) -> Any:
        """JSON value that only servers can read and write. Server-only."""
        return sealed_of(self).get("server_metadata")


conceal(Team)


class TeamDetails(TypedDict, total=False):
    """Fields of a team besides its name. A field that is absent or `UNSET` stays as it is; None sets it to null.

    Attributes:
        profile_image_url: address of an image, or None.
        client_metadata: JSON value that members can read and write.
        client_read_only_metadata: JSON value that members can read.
        server_metadata: JSON value that only servers can read and write.

    Example::

        details: TeamDetails = {"server_metadata": {"plan": "pro"}}
        team = client.create_team("Sales", **details)
    """

    profile_image_url: str | Unset | None
    client_metadata: Any
    client_read_only_metadata: Any
    server_metadata: Any


class TeamFields(TeamDetails, total=False):
    """Fields of a team that a server can set: those of `TeamDetails`, and the name.

    Attributes:
        display_name: name of the team.

    Example::

        changes: TeamFields = {"display_name": "Sales", "profile_image_url": None}
        client.update_team(team_id, **changes)
    """

    display_name: str | Unset


_CHECKS = {
    "display_name": text,
    "profile_image_url": or_none(text),
    "client_metadata": json,
    "client_read_only_metadata": json,
    "server_metadata": json,
}
_KNOWN = frozenset({*_CHECKS, "id", "created_at_millis"})


def team_from_json(body: Any, team_id: str | None = None) -> Team:
    """Return the team in an answer.

    Args:
        body: the JSON object.
        team_id: id that the team has to have, if it is known.

    Raises:
        ValueError: it is another team, or its members are not of the form that Stack Auth sends.
    """
    if text_of(body, "id") != (team_id or body["id"]):
        raise UnreadableError("the answer is not about this team")
    server_only = {"created_at": seconds_of(body, "created_at_millis"), "server_metadata": body.get("server_metadata")}
    return Team(
        id=body["id"],
        display_name=text_of(body, "display_name"),
        profile_image_url=text_or_none(body.get("profile_image_url")),
        client_metadata=freeze(body.get("client_metadata")),
        client_read_only_metadata=freeze(body.get("client_read_only_metadata")),
        _sealed=sealed_members(body, server_only, _KNOWN),
    )


def teams_from_json(body: Any) -> list[Team]:
    """Return the teams in the answer to ``GET /teams``. Raises the same as `team_from_json`."""
    return [team_from_json(each) for each in items_of(body)]


def list_of(user_id: str | Unset = UNSET) -> Request[list[Team]]:
    """Return the request for the teams of a user, or of the whole project if there is no argument."""
    params = {} if user_id is UNSET else {"user_id": uuid("user_id", user_id)}
    return Request("GET", "/teams", teams_from_json, params)


def get(team_id: str) -> Request[Team]:
    """Return the request for a team."""
    team_id = uuid("team_id", team_id)
    return Request("GET", f"/teams/{team_id}", partial(team_from_json, team_id=team_id))


def create(display_name: str, creator_user_id: str | None, fields: Mapping[str, Any]) -> Request[Team]:
    """Return the request that creates a team, with its creator as the first member if one is given."""
    body = body_of({**fields, "display_name": display_name}, _CHECKS)
    if creator_user_id is not None:
        body["creator_user_id"] = uuid("creator_user_id", creator_user_id)
    return Request("POST", "/teams", team_from_json, body=body)


def update(team_id: str, fields: Mapping[str, Any]) -> Request[Team]:
    """Return the request that sets `fields` of a team."""
    team_id = uuid("team_id", team_id)
    read = partial(team_from_json, team_id=team_id)
    return Request("PATCH", f"/teams/{team_id}", read, body=body_of(fields, _CHECKS))


def delete(team_id: str) -> Request[None]:
    """Return the request that deletes a team."""
    return Request("DELETE", f"/teams/{uuid('team_id', team_id)}", ignore)


def add_member(team_id: str, user_id: str) -> Request[None]:
    """Return the request that makes a user a member of a team."""
    return Request("POST", _membership(team_id, user_id), ignore, body={})


def remove_member(team_id: str, user_id: str) -> Request[None]:
    """Return the request that ends the membership of a user."""
    return Request("DELETE", _membership(team_id, user_id), ignore)


def _membership(team_id: str, user_id: str) -> str:
    return f"/team-memberships/{uuid('team_id', team_id)}/{uuid('user_id', user_id)}"
