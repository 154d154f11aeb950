"""A FastAPI app: handlers declare the user as a parameter, and the docs have an Authorize button.

Run: STACK_PROJECT_ID=<your project's id> uvicorn fastapi_app:app
"""

from fastapi import FastAPI, WebSocket
from fastapi.middleware.cors import CORSMiddleware

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, User
from stackauth_middleware.contrib.fastapi import CurrentUser, OptionalUser

OPEN = ["/healthz", "/docs", "/openapi.json"]
auth = StackAuthConfig(rules=[*(Rule(path, "public") for path in OPEN), Rule("/hello", "optional")])

app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=auth)
app.add_middleware(  # added last, so outermost: the front end can read refusals, too
    CORSMiddleware, allow_origins=["http://localhost:3000"], allow_headers=["x-stack-access-token"]
)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/me")
async def me(user: CurrentUser) -> User:
    return user


@app.get("/hello")
def hello(user: OptionalUser) -> dict[str, str | None]:
    return {"hello": user.display_name if user else "stranger"}


@app.websocket("/socket")
async def socket(websocket: WebSocket, user: CurrentUser) -> None:
    await websocket.accept()
    await websocket.send_text(f"hello {user.display_name}")
    await websocket.close()
