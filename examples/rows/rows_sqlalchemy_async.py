"""One row for each user: FastAPI with SQLAlchemy and asyncio, on SQLite (aiosqlite) or PostgreSQL (asyncpg).

Run: STACK_PROJECT_ID=<your project's id> uvicorn rows_sqlalchemy_async:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stackauth_middleware import StackAuthASGIMiddleware, User, per_user
from stackauth_middleware.contrib.fastapi import CurrentUser

engine = create_async_engine(os.environ.get("DATABASE_URL", "sqlite+aiosqlite:///rows.db"))


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    stack_user_id: Mapped[str] = mapped_column(unique=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    name: Mapped[str | None]


def upsert(user: User) -> Any:
    """Return the statement that inserts or updates the row in one step, so that two requests never insert twice."""
    insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert
    row = {"email": user.email if user.email_verified else None, "name": user.display_name}
    return (
        insert(Account)
        .values(stack_user_id=user.user_id, **row)
        .on_conflict_do_update(index_elements=["stack_user_id"], set_=row)
        .returning(Account.id)
    )


@per_user(ttl=600)
async def account_id(user: User) -> int:
    """Write the row on the first request, and once in ten minutes after that; return its id."""
    async with engine.begin() as connection:
        found: int = (await connection.execute(upsert(user))).scalar_one()
        return found


async def current_account_id(user: CurrentUser) -> int:
    try:
        return await account_id(user)
    except IntegrityError as error:  # the only other unique column is the email address
        raise HTTPException(409, "Another account has this email address") from error


AccountId = Annotated[int, Depends(current_account_id)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)  # a real app runs migrations
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(StackAuthASGIMiddleware)


@app.get("/me")
async def me(account_id: AccountId) -> dict[str, Any]:
    async with AsyncSession(engine) as session:
        account = await session.get_one(Account, account_id)
        return {"id": account.id, "email": account.email, "name": account.name}
