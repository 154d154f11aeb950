"""A webhook of a payment service writes the user's plan; the user reads it."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig
from stackauth_middleware.client import AsyncStackAuthClient
from stackauth_middleware.contrib.fastapi import CurrentProfile

auth = StackAuthConfig(rules=[Rule("/paid", "public", methods=["POST"])])
stack_auth = AsyncStackAuthClient(auth)
app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware, config=auth)


class Payment(BaseModel):  # a real app checks the signature of the payment service first
    user_id: str
    plan: str


@app.post("/paid", status_code=204)
async def paid(payment: Payment) -> None:
    await stack_auth.update_user(payment.user_id, client_read_only_metadata={"plan": payment.plan})


@app.get("/plan")
async def plan(profile: CurrentProfile) -> Any:
    return profile.client_read_only_metadata
