"""People with a token and programs with an API key, both under the permissions of their team."""

from typing import Any

from fastapi import FastAPI

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig
from stackauth_middleware.contrib.fastapi import CurrentUser, OptionalApiKey

auth = StackAuthConfig(
    rules=[Rule("/teams/{team_id}/**", permission="write_posts", team="team_id", api_keys=["user"])], permission_ttl=60
)
app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=auth)


@app.post("/teams/{team_id}/posts")
async def post(team_id: str, user: CurrentUser, key: OptionalApiKey) -> dict[str, Any]:
    return {"team": team_id, "author": user.id, "by_program": key is not None}
