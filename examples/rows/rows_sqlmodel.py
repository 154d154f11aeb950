"""One row for each user: FastAPI with SQLModel, on SQLite or PostgreSQL.

Run: STACK_PROJECT_ID=<your project's id> uvicorn rows_sqlmodel:app
"""

import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, create_engine

from stackauth_middleware import StackAuthASGIMiddleware, User, per_user
from stackauth_middleware.contrib.fastapi import CurrentUser

engine = create_engine(os.environ.get("DATABASE_URL", "sqlite:///rows.db"))


class Account(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    stack_user_id: str = Field(unique=True)
    email: str | None = Field(unique=True)
    name: str | None


def upsert(user: User) -> Any:
    """Return the statement that inserts or updates the row in one step, so that two requests never insert twice."""
    insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
    row = {"email": user.email if user.email_verified else None, "name": user.display_name}
    statement = insert(Account).values(stack_user_id=user.user_id, **row)
    return statement.on_conflict_do_update(index_elements=["stack_user_id"], set_=row).returning(Account)


@per_user(ttl=600)
def account_id(user: User) -> int:
    """Write the row on the first request, and once in ten minutes after that; return its id."""
    with Session(engine) as session:
        found: int = session.scalars(upsert(user)).one().id
        session.commit()
        return found


def current_account_id(user: CurrentUser) -> int:
    try:
        return account_id(user)
    except IntegrityError as error:  # the only other unique column is the email address
        raise HTTPException(409, "Another account has this email address") from error


AccountId = Annotated[int, Depends(current_account_id)]

app = FastAPI()
app.add_middleware(StackAuthASGIMiddleware)
SQLModel.metadata.create_all(engine)  # a real app runs migrations


@app.get("/me")
def me(account_id: AccountId) -> dict[str, Any]:
    with Session(engine) as session:
        account = session.get_one(Account, account_id)
        return {"id": account.id, "email": account.email, "name": account.name}
