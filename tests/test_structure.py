"""Structure of the package: layers, exports, tables, and a test file for every module."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import fields
from graphlib import TopologicalSorter
from importlib import metadata
from itertools import product
from pathlib import Path

import pytest

import stackauth_middleware
from stackauth_middleware import asgi, client, errors, serve, wsgi
from stackauth_middleware._core.config import Settings, StackAuthConfig
from stackauth_middleware._core.key_sets import ACTIONS, Action, Age

PACKAGE = Path(stackauth_middleware.__file__).parent
"""The package as it is installed, which may be far from the checkout."""
TESTS = Path(__file__).parent

# -- layers -------------------------------------------------------------------------------------------

LAYERS: tuple[frozenset[str], ...] = tuple(
    frozenset(layer.split())
    for layer in (
        "errors _version",
        "_core",
        "_io",
        "_adapters",
        "_apps _misconfigured _handler_api _per_user _verifiers client",
        "_permission_api",
        "asgi wsgi",
        "__init__",
        "contrib serve testing",
        "_cli _pytest_plugin",
        "__main__",
    )
)
"""Folders and top-level modules, lowest layer first. Each imports only from the layers below its own."""

IMPURE = {
    "threading": {"cache", "owned"},
    "time": set(),
    "socket": set(),
    "select": set(),
    "ssl": set(),
    "asyncio": set(),
    "anyio": set(),
    "trio": set(),
    "gevent": set(),
    "concurrent": set(),
    "multiprocessing": set(),
    "subprocess": set(),
    "datetime": set(),
    "random": set(),
    "secrets": set(),
    "requests": set(),
    "urllib3": set(),
    "httpx": set(),
    "redis": set(),
    "http.client": set(),
    "urllib.request": set(),
}
"""What no module of `_core` imports, except those named, which only use locks."""

OWNERS = {
    "requests": {"_io/http_requests", "_io/deadline_adapter"},
    "urllib3": {"_io/http_requests", "_io/deadline_adapter"},
    "httpx": {"_io/http_httpx"},
    "anyio": {"_io/async_runner", "_io/background", "_io/http_httpx", "_io/request_body", "_handler_api", "_per_user"},
    "asgiref": {"asgi"},
    "jwt": {"_core/tokens", "_core/key_sets"},
    "cryptography": {"_core/tokens", "_core/key_sets"},
    "certifi": {"_io/network"},
    "tomli": {"_core/config_file"},
    "pydantic_core": {"_core/sealed"},
    "typing_extensions": {
        *("_core/config", "_core/outcome", "_verifiers", "asgi", "wsgi"),
        *("client/_async", "client/_calls", "client/_sync"),
    },
}
"""Every distribution that the package outside `OUTER` may import, and the modules that may."""

OUTER = ("contrib", "testing", "_cli", "_pytest_plugin")
"""Folders and modules that may import other distributions."""


def python_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def core_modules() -> list[Path]:
    """Return the files of the package outside `OUTER`."""
    return [path for path in python_files() if name_of(path) not in OUTER]


def name_of(path: Path) -> str:
    """Return the name in `LAYERS` of a file of the package: that of its folder, or its own."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    """Return the path of a module below the package, without its suffix."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports, anywhere in it and under any condition."""
    package = ["stackauth_middleware", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            full = ".".join(filter(None, (stem, node.module)))
            yield from (f"{full}.{alias.name}" for alias in node.names)


def inner(path: Path) -> set[str]:
    """Return the names in `LAYERS` of what a file imports from the package."""
    own = {
        name.split(".")[1:] and name.split(".")[1] for name in imports(path) if is_within(name, "stackauth_middleware")
    }
    known = frozenset().union(*LAYERS)
    return {name if name in known else "__init__" for name in own if name}


def outer(path: Path) -> set[str]:
    """Return the full names of what a file imports from elsewhere."""
    return {
        name
        for name in imports(path)
        if not is_within(name, "stackauth_middleware") and name.split(".")[0] != "__future__"
    }


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def layer_of(name: str) -> int:
    return next(at for at, layer in enumerate(LAYERS) if name in layer)


def test_every_folder_and_module_has_a_layer() -> None:
    found = {name_of(path) for path in python_files()}
    assert found == frozenset().union(*LAYERS)
    assert sum(map(len, LAYERS)) == len(found)


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_from_the_layers_below(path: Path) -> None:
    own = name_of(path)
    allowed = frozenset().union(*LAYERS[: layer_of(own)])
    within = {own} if path.parent != PACKAGE else set()
    assert inner(path) - allowed - within == set()


@pytest.mark.parametrize("folder", ["_core", "_core/server_api", "_io", "client"])
def test_modules_of_a_folder_have_no_import_cycle(folder: str) -> None:
    """Of two modules in a cycle neither can be understood without the other."""
    names = {path.stem: path for path in (PACKAGE / folder).glob("*.py")}
    graph = {
        name: {
            name
            for name in names
            if any(is_within(each, f"stackauth_middleware.{folder.replace('/', '.')}.{name}") for each in imports(path))
        }
        for name, path in names.items()
    }
    assert any(graph.values())
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("path", sorted((PACKAGE / "_core").rglob("*.py")), ids=lambda path: path.stem)
def test_core_does_no_io(path: Path) -> None:
    """No socket, thread, coroutine or clock, so that tests of the core are plain calls."""
    broken = {
        each
        for each in outer(path)
        for module, allowed in IMPURE.items()
        if is_within(each, module) and path.stem not in allowed
    }
    assert broken == set()
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    assert not [
        node for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncWith | ast.AsyncFor)
    ]
    environment = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")]
    assert not environment or path.stem == "environment"


def test_only_the_core_makes_generators_of_effects() -> None:
    """The order of steps is written in the core only."""
    makers = {
        module_of(path)
        for path in core_modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any(
            isinstance(each, ast.Name | ast.Constant) and getattr(each, "id", getattr(each, "value", "")) == "Script"
            for each in ast.walk(node.returns or ast.Pass())
        )
        and any(isinstance(each, ast.Yield | ast.YieldFrom) for each in ast.walk(node))
    }
    assert makers == {
        *("_core/api", "_core/flow", "_core/key_flow", "_core/key_lookup", "_core/key_set_cache", "_core/lookup"),
        *("_core/permissions", "_core/upstream"),
        "_core/server_api/perform",
    }


@pytest.mark.parametrize("path", core_modules(), ids=module_of)
def test_distribution_is_imported_only_by_its_owners(path: Path) -> None:
    """So the exceptions of an HTTP client are mapped in one file."""
    standard = sys.stdlib_module_names | {"tomllib"}  # new in Python 3.11
    foreign = {name.split(".")[0] for name in outer(path)} - standard
    assert {name for name in foreign if module_of(path) not in OWNERS.get(name, ())} == set()


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_uses_no_private_name_of_another(path: Path) -> None:
    """Neither by an import, nor as an attribute of an imported module. ruff's PLC2701 skips relative imports."""
    names = [name for name in imports(path) if is_within(name, "stackauth_middleware")]
    private = [
        name
        for name in names
        if name.rpartition(".")[2].startswith("_")
        and not name.endswith("__")
        and not (PACKAGE.parent / name.replace(".", "/")).with_suffix(".py").exists()
        and not (PACKAGE.parent / name.replace(".", "/")).is_dir()
    ]
    assert private == []
    imported = {name.rpartition(".")[2] for name in names}
    attributes = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)
        if isinstance(node.value, ast.Name) and node.value.id in imported
    ]
    assert attributes == []


def test_every_distribution_that_is_imported_is_a_declared_dependency() -> None:
    """certifi and urllib3 come with requests, cryptography with PyJWT[crypto], pydantic_core with pydantic."""
    declared = [each for each in metadata.requires("stackauth-middleware") or () if "extra ==" not in each]
    names = {re.split(r"[^\w.-]", each)[0].lower() for each in declared}
    assert names == {"pyjwt", "requests", "httpx", "anyio", "asgiref", "tomli"}
    assert set(OWNERS) == {
        *("jwt", *names - {"pyjwt"}),
        *("urllib3", "certifi", "cryptography", "typing_extensions", "pydantic_core"),
    }


def test_typing_extensions_is_imported_only_for_type_checkers() -> None:
    """It is not a dependency: every import of it is under `TYPE_CHECKING`."""
    for path in python_files():
        tree = ast.parse(path.read_text("utf-8"))
        guarded = [
            node
            for block in ast.walk(tree)
            if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
            for node in ast.walk(block)
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "typing_extensions":
                assert node in guarded, path


def test_imports_of_every_form_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above depend on it."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "_core").mkdir()
    module = tmp_path / "_core" / "tokens.py"
    module.write_text(
        "import httpx, os.path as p\n"
        "from .flow import Flow\n"
        "from .. import _io, errors as e\n"
        "def f():\n    from urllib.request import urlopen\n    import stackauth_middleware._adapters\n"
        "if TYPE_CHECKING:\n    from stackauth_middleware import User\n",
        "utf-8",
    )
    assert inner(module) == {"_core", "_io", "errors", "_adapters", "__init__"}
    assert outer(module) == {"httpx", "os.path", "urllib.request.urlopen"}
    (tmp_path / "contrib").mkdir()
    (tmp_path / "contrib" / "x.py").write_text(
        "from .._adapters import USER\nfrom .y import z\nfrom .. import User\n", "utf-8"
    )
    assert inner(tmp_path / "contrib" / "x.py") == {"_adapters", "contrib", "__init__"}


# -- exports ------------------------------------------------------------------------------------------

PROMISED = {
    *("StackAuthASGIMiddleware", "StackAuthWSGIMiddleware"),
    *("StackAuthConfig", "Rule"),
    *("Verifier", "AsyncVerifier"),
    *("User", "UserProfile", "UserType"),
    *("get_user", "require_user", "load_profile", "aload_profile"),
    *("has_permission", "ahas_permission", "require_permission", "arequire_permission"),
    *("teams", "ateams", "require_team", "arequire_team"),
    *("ApiKey", "ApiKeyType", "get_api_key"),
    "per_user",
    "ErrorCode",
    *("StackAuthError", "ConfigError", "RefusedError", "AuthServerError"),
}
"""design.md section 1: these names, and no other."""


def test_package_exports_the_promised_names() -> None:
    assert set(stackauth_middleware.__all__) == PROMISED
    assert len(stackauth_middleware.__all__) == len(PROMISED)
    assert all(hasattr(stackauth_middleware, name) for name in PROMISED)


def test_nothing_else_has_a_public_name() -> None:
    plain = {name for name in vars(stackauth_middleware) if name.isidentifier() and not name.startswith("_")}
    modules = {"asgi", "wsgi", "errors", "testing", "contrib", "annotations", "client", "serve"}
    assert plain - modules == PROMISED
    public = {module_of(path) for path in core_modules() if not module_of(path).startswith("_")}
    assert {name for name in public if "/_" not in name} == {"asgi", "wsgi", "errors", "serve"}


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (asgi, {"StackAuthASGIMiddleware"}),
        (wsgi, {"StackAuthWSGIMiddleware"}),
        (serve, {"create_app", "create_application"}),
        (
            errors,
            {"AuthServerError", "ConfigError", "ErrorCode", "Event", "RefusalInfo", "RefusedError", "StackAuthError"},
        ),
        (
            client,
            {
                *("StackAuthClient", "AsyncStackAuthClient", "UNSET", "Unset"),
                *("UserFields", "UserListOptions", "TeamDetails", "TeamFields"),
                *("Team", "Permission", "Session", "ApiKey", "ApiKeyType"),
                *("ApiError", "NotFoundError", "ConflictError", "PermissionDeniedError", "AuthServerError"),
            },
        ),
    ],
    ids=["asgi", "wsgi", "serve", "errors", "client"],
)
def test_public_module_lists_its_exports(module: object, names: set[str]) -> None:
    assert set(module.__all__) == names
    assert all(getattr(module, name).__module__.startswith("stackauth_middleware") for name in names)


def test_version_has_a_single_source() -> None:
    assert metadata.version("stackauth-middleware") == stackauth_middleware.__version__
    tree = ast.parse((PACKAGE / "_version.py").read_text("utf-8"))
    assert [type(node) for node in tree.body] == [ast.Expr, ast.Assign]


# -- importing ----------------------------------------------------------------------------------------

HEAVY = ("requests", "urllib3", "httpx", "httpcore", "asgiref", "anyio", "trio", "pytest", "asyncio", "certifi")


def imported_by(code: str, names: tuple[str, ...]) -> list[str]:
    """Return those of `names` that are imported after `code` ran in a fresh interpreter."""
    code = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
{code}
print(*(name for name in {names!r} if name in sys.modules))
"""
    found = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    return found.stdout.split()


def test_importing_the_package_imports_no_http_client_event_loop_or_test_tool() -> None:
    """A WSGI app must not pay for httpx, nor an ASGI app for requests."""
    assert imported_by("import stackauth_middleware", HEAVY) == []


SERVER = "project_id='internal', secret_server_key='x'"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "from stackauth_middleware import StackAuthConfig; StackAuthConfig(project_id='internal')",
            ("requests", "httpx"),
        ),
        ("from stackauth_middleware import *; Verifier(project_id='internal')", ("httpx", "anyio", "asgiref")),
        (
            "from stackauth_middleware import *; StackAuthWSGIMiddleware(lambda e, s: [], project_id='internal')",
            ("httpx", "anyio", "asgiref"),
        ),
        (
            "from stackauth_middleware import *; StackAuthASGIMiddleware(lambda s, r, t: None, project_id='internal')",
            ("requests", "urllib3"),
        ),
        (
            f"from stackauth_middleware.client import *; StackAuthClient({SERVER})",
            ("httpx", "anyio", "asgiref"),
        ),
        (
            f"from stackauth_middleware.client import *; AsyncStackAuthClient({SERVER})",
            ("requests", "urllib3"),
        ),
    ],
    ids=["config", "verifier", "wsgi", "asgi", "client", "async client"],
)
def test_middleware_and_verifier_import_only_their_own_http_client(code: str, absent: tuple[str, ...]) -> None:
    assert imported_by(code, absent) == []


# -- tables -------------------------------------------------------------------------------------------


def test_key_set_table_is_total() -> None:
    """It has an action for each combination of age, known key id and allowed fetch, and uses each action."""
    assert set(ACTIONS) == set(product(Age, (True, False), (True, False)))
    assert set(ACTIONS.values()) == set(Action)


def test_settings_typed_dict_has_the_fields_of_the_config() -> None:
    """Middlewares take `**settings`: type checkers read `Settings`, the code reads the fields."""
    config = typing.get_type_hints(StackAuthConfig)
    init = {each.name: config[each.name] for each in fields(StackAuthConfig) if each.init}
    assert typing.get_type_hints(Settings) == init
    assert Settings.__total__ is False


def test_every_setting_has_a_default() -> None:
    """A config without arguments is valid where the environment has the project."""
    assert all(each.kw_only for each in fields(StackAuthConfig) if each.init)
    missing = [each.name for each in fields(StackAuthConfig) if each.init and each.default is each.default_factory]
    assert missing == []


# -- test files ---------------------------------------------------------------------------------------

NO_CODE = {"__init__", "_version"}
"""Modules of imports and constants only, which have no test file."""


@pytest.mark.parametrize("path", core_modules(), ids=module_of)
def test_module_has_a_test_file_of_its_own(path: Path) -> None:
    """`tests/one_file_coverage.py` checks that it covers the module completely."""
    code = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    if path.stem in NO_CODE:
        assert not [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, code)]
        return
    assert test_file_of(path).is_file()


def test_unit_test_file_belongs_to_a_module() -> None:
    """Where a module is renamed or deleted, so is its test file."""
    expected = {test_file_of(path) for path in python_files()}
    found = {path for folder in ("", "core", "io") for path in (TESTS / "unit" / folder).glob("test_*.py")}
    assert found - expected == set()


def test_file_of(path: Path) -> Path:
    """Return where the tests of a module are: tests/unit mirrors the package."""
    *folders, name = path.relative_to(PACKAGE).with_suffix("").parts
    return TESTS.joinpath("unit", *(folder.strip("_") for folder in folders), f"test_{name.strip('_')}.py")


test_file_of.__test__ = False


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_is_short(path: Path) -> None:
    """The limit of the style guide is about 300 lines."""
    assert len(path.read_text("utf-8").splitlines()) <= 345


@pytest.mark.parametrize("path", python_files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree)
    assert "from __future__ import annotations" in path.read_text("utf-8") or not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in tree.body
    )
