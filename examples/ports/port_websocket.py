"""Demand a plan in the user's metadata for some paths, and authenticate a browser's WebSockets by subprotocol."""

from fastapi import FastAPI, WebSocket

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User
from stackauth_middleware.contrib.fastapi import CurrentUser


def is_pro(user: User) -> bool:
    return user.profile is not None and (user.profile.client_read_only_metadata or {}).get("plan") == "pro"


auth = StackAuthConfig(
    rules=[Rule("/pro/**", profile=True, check=is_pro)],
    token_sources=["x-stack-access-token", "bearer", "websocket"],
)
app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=auth)


@app.get("/pro/report")
async def report(user: CurrentUser) -> dict[str, str]:
    return {"for": user.id}


@app.websocket("/chat")
async def chat(websocket: WebSocket, user: CurrentUser) -> None:
    await websocket.accept()
    await websocket.send_json({"id": user.id})
    await websocket.close()
