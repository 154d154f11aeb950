"""Requests, good and bad, with what the model has to know of each."""

from __future__ import annotations

import base64
import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from stackauth_middleware import UserType
from stackauth_middleware.testing import Account, LocalStackAuth

from .model import Credential, Model, Shot
from .settings import PROJECT
from .upstream import Upstream

FOREIGN_PROJECT = "0b1d7c3e-8d0f-4a5b-9a55-1c7b5a1f2e3d"
_CHANGED = (
    "/jwt/me",
    "/jwt/me",
    "/jwt/open",
    "/jwt/public",
    "/jwt/any",
    "/jwt/profile",
    "/rest/me",
    "/rest/me",
    "/rest/open",
)
_UNPROFILED = ("/jwt/me", "/jwt/open", "/jwt/any", "/rest/me", "/rest/open")
_Made = tuple[str, Credential]


class Traffic:
    """Makes requests: users with tokens of any age, and those who try their luck.

    Args:
        upstream: whose local Stack Auth signs; records which tokens it must never receive.
        model: knows the users.
        seed: of what is drawn.
    """

    def __init__(self, upstream: Upstream, model: Model, seed: int, users: int = 40) -> None:
        self._upstream = upstream
        self._local: LocalStackAuth = upstream.local
        self._model = model
        self._draw = random.Random(seed)
        self._fresh: deque[_Made] = deque(maxlen=6 * users)
        self._old: deque[_Made] = deque(maxlen=200)
        self._forbidden: deque[str] = deque()
        self._number = 0
        self.users = [self._new_user() for _ in range(users)]
        self._unchanging = {
            UserType.RESTRICTED: [self._local.users.create(restricted_by_admin=True) for _ in range(6)],
            UserType.ANONYMOUS: [self._local.users.create(is_anonymous=True) for _ in range(6)],
        }
        kinds: list[tuple[int, Callable[[], tuple[Any, _Made, str]]]] = [
            (46, self._repeated),
            (10, self._verify_signature),
            (7, self._brief),
            (6, self._withdrawn),
            (4, lambda: self._typed(UserType.RESTRICTED)),
            (4, lambda: self._typed(UserType.ANONYMOUS)),
            (5, self._nothing),
            (4, self._garbage),
            (5, self._forged),
            (3, self._unknown_kid),
            (2, self._foreign),
            (2, self._ambiguous),
            (2, self._unsigned),
        ]
        self._weights, self._kinds = [weight for weight, _ in kinds], [kind for _, kind in kinds]

    def next(self, middleware: str) -> Shot:
        """Return the next request for a middleware."""
        headers, (token, credential), label = self._draw.choices(self._kinds, self._weights)[0]()
        paths = _CHANGED if credential.kind != "token" or credential.user_type == "normal" else _UNPROFILED
        if headers is None:
            headers = self._carried(token)
        return Shot(middleware, self._draw.choice(paths), headers, credential, label)

    def shot(self, middleware: str, path: str, user: Account) -> Shot:
        """Return a good request of one's choosing, with a new token."""
        token, credential = self._signed(user)
        return Shot(middleware, path, (("x-stack-access-token", token),), credential, "chosen")

    def rotated(self) -> None:
        """Let most users have a new token after the keys have changed."""
        for _ in range(len(self._fresh) * 3 // 4):
            self._old.append(self._fresh.popleft())

    def publish(self) -> None:
        """Report to the model which keys are published from now on."""
        issuer = self._local.issuer
        kids = frozenset(key.kid for each in UserType for key in issuer.keys(PROJECT, each))
        self._model.keys.publish(kids, time.time())

    def change(self, how: str) -> None:
        """Change some user: ``restrict``, ``unrestrict``, ``delete``, ``recreate`` or ``rename``."""
        users, now = self._local.users, time.time()
        for number in self._draw.sample(range(len(self.users)), len(self.users)):
            user_id = self.users[number].id
            what = self._model.users[user_id][-1].what
            if (how, what) in (
                ("restrict", "normal"),
                ("rename", "normal"),
                ("unrestrict", "restricted"),
                ("delete", "normal"),
            ):
                break
            if (how, what) == ("recreate", "deleted"):
                break
        else:
            return
        self._number += 1
        name = f"user {number} as of {self._number}"
        if how == "restrict":
            name = users.restrict(user_id).display_name or ""
        elif how == "unrestrict":
            name = users.unrestrict(user_id).display_name or ""
        elif how == "delete":
            users.delete(user_id)
        elif how == "rename":
            self.users[number] = users.update(user_id, display_name=name)
        else:
            self.users[number] = users.create(user_id, display_name=name)
        what = {"restrict": "restricted", "delete": "deleted"}.get(how, "normal")
        self._model.changed(user_id, now, what, name)

    def _new_user(self) -> Account:
        self._number += 1
        account = self._local.users.create(display_name=f"user {self._number}", primary_email_verified=True)
        self._model.changed(account.id, time.time(), "normal", account.display_name)
        return account

    def _carried(self, token: str) -> tuple[tuple[str, str], ...]:
        how = self._draw.randrange(4)
        if how == 0:
            return (("authorization", f"Bearer {token}"),)
        if how == 1:
            return (("x-stack-auth", json.dumps({"accessToken": token, "refreshToken": "never-read"})),)
        return (("x-hexclave-access-token" if how == 2 else "x-stack-access-token", token),)

    def _signed(self, user: Account, kind: UserType = UserType.NORMAL, expires_in: float = 600.0, **more: Any) -> _Made:
        token = self._local.token(
            user, user_type=kind, expires_in=expires_in, jti=f"{self._draw.getrandbits(64):x}", **more
        )
        header, payload = (_part(each) for each in token.split(".")[:2])
        name, kid = payload["name"], header["kid"]
        return token, Credential("token", user.id, kind.value, name, kid, float(payload["exp"]))

    # -- good ones -----------------------------------------------------------------------------------

    def _verify_signature(self) -> tuple[Any, _Made, str]:
        key = "second" if self._draw.random() < 0.1 else "first"
        made = self._signed(self._draw.choice(self.users), key=key)
        self._fresh.append(made)
        return None, made, "first sight"

    def _repeated(self) -> tuple[Any, _Made, str]:
        if not self._fresh:
            return self._verify_signature()
        made = self._draw.choice(self._fresh)
        if made[1].expires_at - time.time() < 60:
            self._fresh.remove(made)
            self._old.append(made)
        return None, made, "repeated"

    def _brief(self) -> tuple[Any, _Made, str]:
        """One that expires while it is used, or has, within the leeway or beyond."""
        made = self._signed(
            self._draw.choice(self.users), expires_in=self._draw.choice((-20, -7, -6, -5, -4, -3, 1, 3))
        )
        self._old.append(made)
        return None, made, "brief"

    def _withdrawn(self) -> tuple[Any, _Made, str]:
        return (None, self._draw.choice(self._old), "old") if self._old else self._verify_signature()

    def _typed(self, kind: UserType) -> tuple[Any, _Made, str]:
        return None, self._signed(self._draw.choice(self._unchanging[kind]), kind), kind.value

    # -- bad ones ------------------------------------------------------------------------------------

    def _nothing(self) -> tuple[Any, _Made, str]:
        return (("cookie", "a=b"),), ("", Credential("none")), "nothing"

    def _garbage(self) -> tuple[Any, _Made, str]:
        token, _ = self._verify_signature()[1]
        bent = self._draw.choice(("undefined", "a.b.c", token[:-1], f"{token}.{token}", token.replace(".", "", 1)))
        return (("x-stack-access-token", bent),), ("", Credential("unreadable")), "garbage"

    def _forged(self) -> tuple[Any, _Made, str]:
        """A token whose payload or key was replaced, with the id of the right key."""
        user = self._draw.choice(self.users)
        if self._draw.random() < 0.5:
            token, credential = self._signed(user, key="foreign")
        else:
            token, credential = self._signed(user)
            other = self._signed(self._draw.choice(self.users))[0]
            token = ".".join((token.split(".")[0], other.split(".")[1], token.split(".")[2]))
        return None, self._never_sent(token, credential, forged=True), "forged"

    def _unknown_kid(self) -> tuple[Any, _Made, str]:
        kid = f"unknown-{self._draw.getrandbits(48):012x}"
        token, credential = self._signed(self._draw.choice(self.users), kid=kid, key="foreign")
        return None, self._never_sent(token, credential, forged=True), "unknown kid"

    def _foreign(self) -> tuple[Any, _Made, str]:
        token = self._local.token(self._draw.choice(self.users), user_type="normal", project_id=FOREIGN_PROJECT)
        return None, self._never_sent(token, Credential("unreadable")), "foreign"

    def _unsigned(self) -> tuple[Any, _Made, str]:
        token = self._local.token(self._draw.choice(self.users), user_type="normal", header={"alg": "none"})
        return None, self._never_sent(token, Credential("unreadable")), "unsigned"

    def _ambiguous(self) -> tuple[Any, _Made, str]:
        token = self._verify_signature()[1][0]
        twice = (("x-stack-access-token", token), ("x-stack-access-token", token))
        return twice, ("", Credential("ambiguous")), "ambiguous"

    def _never_sent(self, token: str, credential: Credential, *, forged: bool = False) -> _Made:
        self._forbidden.append(token)
        self._upstream.forbidden.add(token)
        if len(self._forbidden) > 2000:
            self._upstream.forbidden.discard(self._forbidden.popleft())
        return token, Credential(**{**vars(credential), "forged": forged})


def _part(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
