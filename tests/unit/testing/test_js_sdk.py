"""The real JavaScript SDK, before and after its rename, with a local Stack Auth for its server.

Needs Node, npm and the npm registry, and so runs only where ``TESTS_JS=1`` asks for it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stackauth_middleware.testing import LocalStackAuth, SignedIn
from tests.unit.testing.helpers import OTHER_PROJECT, PROJECT, PUBLISHABLE, SECRET, claims_of

HERE = Path(__file__).parent / "js"
SDKS = ("stackframe-js-before-rename", "stackframe-js-after-rename")
MISSING = [tool for tool in ("node", "npm") if shutil.which(tool) is None]

pytestmark = pytest.mark.skipif(
    os.environ.get("TESTS_JS") != "1", reason="the SDK is fetched from npm; TESTS_JS=1 asks for it"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the driver and both SDKs."""
    if MISSING:
        reason = f"{' and '.join(MISSING)} not found"
        if os.environ.get("CI") == "true":
            pytest.fail(f"TESTS_JS=1, but {reason}")
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("js")
    for source in HERE.iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture
def served() -> Iterator[LocalStackAuth]:
    """A local Stack Auth behind uvicorn, on a port of its own."""
    uvicorn = pytest.importorskip("uvicorn")
    local = LocalStackAuth(PROJECT, secret_server_key=SECRET, publishable_client_key=PUBLISHABLE, any_project=False)
    local.add_project(OTHER_PROJECT)
    server = uvicorn.Server(
        uvicorn.Config(local.asgi, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    local.api_url = f"http://127.0.0.1:{port}"
    yield local
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def drive(folder: Path, local: LocalStackAuth, sdk: str, cases: list[dict[str, Any]]) -> dict[str, Any]:
    job = {
        "sdk": sdk,
        "baseUrl": local.api_url,
        "projectId": PROJECT,
        "secretServerKey": SECRET,
        "publishableClientKey": PUBLISHABLE,
        "cases": cases,
    }
    done = subprocess.run(
        ["node", "driver.mjs"],
        cwd=folder,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def x_stack_auth(access_token: str | None, refresh_token: str | None = "r" * 45) -> dict[str, str]:
    return {"x-stack-auth": json.dumps({"accessToken": access_token, "refreshToken": refresh_token})}


def authorization(access_token: str) -> dict[str, str]:
    members = json.dumps({"accessToken": access_token, "refreshToken": "r" * 45})
    return {"authorization": "Bearer stackauth_" + base64.b64encode(members.encode()).decode()}


def from_request(name: str, headers: dict[str, str], **options: Any) -> dict[str, Any]:
    return {"name": name, "way": "fromRequest", "headers": headers, "options": options}


@pytest.mark.parametrize("sdk", SDKS)
def test_real_sdk_accepts_the_local_responses(sdk: str, installed: Path, served: LocalStackAuth) -> None:
    ann = served.users.create(
        primary_email="ann@example.com",
        primary_email_verified=True,
        display_name="Ann",
        client_metadata={"theme": "dark"},
        server_metadata={"plan": "pro"},
    )
    restricted = served.users.create(primary_email="rob@example.com", must_verify_email=True)
    gone = served.users.create(primary_email="gone@example.com")
    of_the_gone = served.token(gone)
    served.users.delete(gone.id)
    session, ended = served.sign_in(ann, expires_in=-60), served.sign_in(ann, expires_in=-60)
    served.sign_out(ended)
    results = drive(
        installed,
        served,
        sdk,
        [
            from_request("normal", x_stack_auth(served.token(ann))),
            from_request("authorization", authorization(served.token(ann))),
            from_request("no user", x_stack_auth(None, None)),
            from_request("restricted", x_stack_auth(served.token(restricted))),
            from_request("restricted included", x_stack_auth(served.token(restricted)), includeRestricted=True),
            from_request("anonymous", x_stack_auth(served.token(user_type="anonymous"))),
            from_request("deleted", x_stack_auth(of_the_gone)),
            from_request("foreign key", x_stack_auth(served.token(ann, key="foreign"))),
            from_request("other project", x_stack_auth(served.token(ann, project_id=OTHER_PROJECT))),
            memory("refreshed", session),
            memory("signed out", ended),
            {"name": "by id", "way": "byId", "id": ann.id},
            {"name": "by unknown id", "way": "byId", "id": gone.id},
        ],
    )
    expected = {
        "id": ann.id,
        "primaryEmail": "ann@example.com",
        "displayName": "Ann",
        "isAnonymous": False,
        "isRestricted": False,
        "clientMetadata": {"theme": "dark"},
        "serverMetadata": {"plan": "pro"},
    }
    assert results["normal"] == {"value": expected}
    # the new header came with 2.8.88
    assert results["authorization"] == {"value": expected if sdk == SDKS[1] else None}
    for name in ("no user", "restricted", "anonymous", "deleted", "foreign key", "other project", "by unknown id"):
        assert results[name] == {"value": None}, name
    assert results["restricted included"]["value"]["isRestricted"] is True
    assert results["by id"] == {"value": expected}
    refreshed = results["refreshed"]["value"]
    assert refreshed["user"] == expected
    assert refreshed["accessToken"] != session.access_token
    assert claims_of(refreshed["accessToken"])["refresh_token_id"] == session.session_id
    assert results["signed out"]["value"] == {"user": None, "accessToken": None}
    assert served.requests.count("other") == 0


def memory(name: str, session: SignedIn) -> dict[str, Any]:
    return {
        "name": name,
        "way": "fromMemory",
        "accessToken": session.access_token,
        "refreshToken": session.refresh_token,
    }
