"""Every check of this project, each in an environment of its own: ``nox`` runs all, ``nox -s NAME`` one.

What follows ``--`` goes to pytest: ``nox -s tests-3.12 -- -k keys``; paths there replace those of the
session. Interpreters that are not installed are skipped, aloud, and never downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"

HERE = Path(__file__).parent
PROJECT = nox.project.load_toml(HERE / "pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)

SHARED = HERE.parent / "shared"
if SHARED.is_dir():
    os.environ.setdefault("TESTS_SHARED", str(SHARED))

FRAMEWORK_TESTS = (
    "tests/frameworks",
    "tests/network/frameworks",
    "tests/test_readme.py",
    "tests/test_docs.py",
)
INTEGRATION_TESTS = ("tests/integrations",)
"""Run by the session `coverage`, whose tests of `contrib` they are."""
SERVER_TESTS = ("tests/servers",)
GEVENT_TESTS = ("tests/gevent",)
ATTACK_TESTS = ("tests/attack",)
SITE_TESTS = "tests/test_site.py"
JS_TESTS = "tests/unit/testing/test_js_sdk.py"
TYPING_TESTS = "tests/typing/test_typing.py"
TIMED_TESTS = ("tests/unit/io", "tests/network", "tests/load")
"""Tests with real sockets, threads and deadlines run one at a time; all others run in parallel."""
ONCE_TESTS = (
    "tests/concurrency/test_interleavings.py",
    "tests/security/test_costs.py",
    "tests/security/test_e_paths.py",
    "tests/test_ci_run.py",
)
"""Long tests of what is the same on every Python, such as the order of steps: they run on the newest alone."""
WHEEL_TESTS = (
    "tests/test_structure.py",
    "tests/unit/test_main.py",
    "tests/unit/cli",
    "tests/unit/testing",
    "tests/unit/test_asgi.py",
    "tests/unit/test_wsgi.py",
)
"""What packaging can break: modules, metadata, the command, the pytest plugin, a request by each middleware."""
LOWEST_VERSION_TESTS = (
    "tests/unit/core/test_tokens.py",
    "tests/unit/core/test_key_sets.py",
    "tests/unit/test_handler_api.py",
    "tests/security/test_corpus.py",
    "tests/security/test_oracles.py",
    "tests/security/test_wycheproof.py",
    "tests/unit/io",
    "tests/unit/test_asgi.py",
    "tests/unit/test_wsgi.py",
    "tests/unit/cli",
    "tests/unit/testing",
    "tests/concurrency/test_cancelled_calls.py",
)
"""Tests of all code that calls a dependency: PyJWT, cryptography, both HTTP clients, anyio, asgiref, the demo."""
HTTPX2_TESTS = (
    "tests/unit/io/test_http_httpx.py",
    "tests/unit/io/test_async_runner.py",
    "tests/concurrency/test_cancelled_calls.py",
    "tests/concurrency/test_pooled_connections.py",
    "tests/unit/test_asgi.py",
)
"""Tests of all code that calls httpx; the session `tests` runs them with httpx itself."""
THREAD_TESTS = ("tests/concurrency/test_thread_switches.py",)
FREE_THREADED = [f"{each}t" for each in PYTHONS if shutil.which(f"python{each}t")]
"""The interpreters of this machine without a global lock. cryptography has wheels for those of 3.14 and later."""
FEW_EXAMPLES = "15"
"""Examples of each property test of tests/unit: for coverage, on the Pythons between, with the lowest versions."""
CACHED_HEADER_TEST = "tests/unit/core/test_tokens.py::test_header_cache_is_bounded_and_keeps_results_apart"
"""The one test of `tokens` that needs the cache of parsed headers, which the mutants session takes away."""
MUTATED_MODULES = (
    *("_core/tokens", "_core/credentials", "_core/key_sets", "_core/key_set_cache", "_core/rules", "_core/paths"),
    *("_core/upstream", "_core/lookup", "_core/profiles", "_core/cache", "_core/responses", "_core/flow", "_adapters"),
)
"""The modules whose surviving mutants tests/security/MUTANTS.md lists: they decide, ask Stack Auth, or cache."""
INSTALLED = [each for each in PYTHONS if shutil.which(f"python{each}")] or PYTHONS
OLDEST, NEWEST = INSTALLED[0], INSTALLED[-1]
"""The Pythons that run the whole suite; those between run the unit tests. Where one Python is installed, it is both."""


@nox.session
def lint(session: nox.Session) -> None:
    """Style by ruff; types by mypy and pyright, over the package, the examples, and right and wrong uses of it."""
    session.install("-e", ".[demo]", *_groups("lint", "test", "frameworks", "gevent"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    typed = [path for path in ("stackauth_middleware", "examples", "tests/typing") if _has_python(path)]
    session.run("mypy", *typed)
    session.run("pyright", "--pythonpath", str(Path(session.bin, "python")))
    _pytest(session, TYPING_TESTS)
    workflows = sorted(map(str, Path(".github", "workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    forms = [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/feature.yml"]
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms)
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")
    session.run("zizmor", "--offline", "--persona", "pedantic", ".github")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into ``docs/_build/site``, with every page also as Markdown; any warning fails."""
    session.install("-e", ".", *_groups("docs", "test", "frameworks"))
    strict = ("--quiet", "--fail-on-warning", "--keep-going", "--doctree-dir", "docs/_build/doctrees")
    for builder, fresh in (("html", ("--fresh-env", "--write-all")), ("markdown", ("--write-all",))):
        session.run("sphinx-build", *strict, *fresh, "--builder", builder, "docs", "docs/_build/site")
    _pytest(session, SITE_TESTS)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests that need no framework, and no server but the demo's.

    All of them run on the oldest and the newest Python, and those between run the unit tests that are not timed.
    """
    session.install("-e", ".[demo]", *_groups("test"))
    if session.python not in (OLDEST, NEWEST):
        beside = (*TIMED_TESTS, JS_TESTS)
        _pytest(session, "-n", "auto", "tests/unit", *_ignored(beside), env={"TESTS_EXAMPLES": FEW_EXAMPLES})
        return
    beside = (
        *FRAMEWORK_TESTS,
        *INTEGRATION_TESTS,
        *SERVER_TESTS,
        *GEVENT_TESTS,
        *ATTACK_TESTS,
        *TIMED_TESTS,
        JS_TESTS,
        SITE_TESTS,
    )
    if session.python != NEWEST:
        beside += ONCE_TESTS
    _pytest(session, "-n", "auto", "tests", *_ignored((*beside, TYPING_TESTS)), env={"TESTS_ALL_CASES": "1"})
    if not _names_tests(session.posargs):
        _pytest(session, *TIMED_TESTS, *_ignored(FRAMEWORK_TESTS))


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run what all frameworks have in common, and the code blocks of README and docs."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers"))
    _pytest(session, "-n", "auto", *FRAMEWORK_TESTS)


@nox.session
def servers(session: nox.Session) -> None:
    """Run the matrix of servers and frameworks over real sockets, and attacks on single servers."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers", "gevent"))
    _pytest(session, "-n", "auto", *SERVER_TESTS)


@nox.session
def gevent(session: nox.Session) -> None:
    """Run the tests under gevent, which patches the whole process and so needs a process of its own."""
    session.install("-e", ".[demo]", *_groups("test", "gevent", "servers"))
    _pytest(session, *GEVENT_TESTS)


@nox.session(default=False)
def corpus(session: nox.Session) -> None:
    """Send every hostile token through verifiers and middlewares, as the tests do on the oldest and newest Python."""
    session.install("-e", ".[demo]", *_groups("test"))
    _pytest(session, "-n", "auto", "tests/security/test_corpus.py", env={"TESTS_ALL_CASES": "1"})


@nox.session
def coverage(session: nox.Session) -> None:
    """Demand all lines and branches of the package: each module by its own test file alone, and combined."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers"))
    session.run("python", "tests/one_file_coverage.py", *session.posargs, env={"TESTS_EXAMPLES": FEW_EXAMPLES})


@nox.session(reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Build the distributions, install the wheel into an empty environment, and test it away from the checkout.

    The wheel must hold each file of the package byte for byte; so only what packaging can break is tested again.
    """
    with tempfile.TemporaryDirectory() as folder:
        away = Path(folder)
        built = _build(session, away / "dist")
        session.install(f"{built}[demo]", *_groups("test"))
        for name in ("tests", "examples", ".ci"):
            shutil.copytree(HERE / name, away / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "noxfile.py", "README.md", "CHANGELOG.md", "LICENSE"):
            shutil.copy(HERE / name, away)
        with session.chdir(away):
            session.run("python", "-c", _COMPARE_FILES, str(HERE / "stackauth_middleware"))
            _pytest(session, "-n", "auto", *WHEEL_TESTS, f"--ignore={JS_TESTS}")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests of what calls a dependency on the lowest versions that the package declares."""
    session.install("-e", ".[demo]", *_floors(), *_groups("test"))
    few = {"TESTS_EXAMPLES": FEW_EXAMPLES}
    _pytest(session, "-n", "auto", *LOWEST_VERSION_TESTS, f"--ignore={JS_TESTS}", env=few)


@nox.session
def httpx2(session: nox.Session) -> None:
    """Run the tests of the HTTP client for tasks with httpx2 in place of httpx."""
    if sys.version_info < (3, 11):
        session.skip("httpx2 is for Python 3.11 and later; run nox by one of them")
    session.install("-e", ".[demo]", *_groups("test", "httpx2"))
    _pytest(session, "-n", "auto", *HTTPX2_TESTS)


@nox.session(python=FREE_THREADED or None)
def free_threads(session: nox.Session) -> None:
    """Let threads share verifiers and middlewares on interpreters without a global lock, where there are any."""
    if not FREE_THREADED:
        session.skip("no free-threaded Python is here; `tests` runs the same with threads that switch often")
    session.install("-e", ".[demo]", *_groups("test"))
    _pytest(session, *THREAD_TESTS)


@nox.session
def js(session: nox.Session) -> None:
    """Run the real JavaScript SDK against the local Stack Auth; needs node and npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        if os.environ.get("CI"):
            session.error("node and npm are not here, and continuous integration must have them")
        session.skip("node and npm are not here")
    session.install("-e", ".[demo]", *_groups("test"))
    _pytest(session, JS_TESTS, env={"TESTS_JS": "1"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz for half a minute, or as said: ``nox -s fuzz -- --seconds 3600 token``."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        if os.environ.get("CI"):
            session.error("atheris is for Python 3.11 to 3.13, and continuous integration must have one of them")
        session.skip("atheris is for Python 3.11 to 3.13; run nox by one of them")
    session.install("-e", ".", *_groups("test", "fuzz"))
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def attack(session: nox.Session) -> None:
    """Attack every framework and server with random requests for half a minute, or as said; see ``-- --help``."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers"))
    if not session.posargs:
        _pytest(session, *ATTACK_TESTS)
    session.run("python", "-m", "tests.attack", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Mutate modules in a copy, and list what their unit tests do not notice: ``nox -s mutants -- _core/rules``."""
    session.install("-e", ".", *_groups("test", "mutants"))
    for name in session.posargs or MUTATED_MODULES:
        with tempfile.TemporaryDirectory() as folder:
            away = Path(folder)
            for part in ("stackauth_middleware", "tests"):
                shutil.copytree(HERE / part, away / part, ignore=shutil.ignore_patterns("__pycache__"))
            # mutmut skips decorated functions; without its cache this one behaves the same, but for one test.
            tokens = away / "stackauth_middleware" / "_core" / "tokens.py"
            tokens.write_text(re.sub(r"(?m)^@lru_cache\(.*\n", "", tokens.read_text("utf-8")), "utf-8")
            *folders, module = name.split("/")
            unit_test = Path("tests", "unit", *(each.strip("_") for each in folders), f"test_{module.strip('_')}.py")
            settings = {
                "source_paths": ["stackauth_middleware"],
                "only_mutate": [f"stackauth_middleware/{name}.py"],
                "pytest_add_cli_args_test_selection": [unit_test.as_posix()],
                "also_copy": ["tests"],
                "pytest_add_cli_args": ["-p", "no:cacheprovider", f"--deselect={CACHED_HEADER_TEST}"],
            }
            table = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
            project = (HERE / "pyproject.toml").read_text("utf-8")
            (away / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{table}", "utf-8")
            with session.chdir(away):
                session.run("mutmut", "run", "--max-children", "1")
                session.run("mutmut", "results")


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Send half an hour of traffic through both middlewares while Stack Auth fails; see ``-- --help``."""
    session.install("-e", ".[demo]", *_groups("test", "servers"))
    session.run("python", "-m", "tests.load", *session.posargs)


@nox.session(default=False)
def transparency(session: nox.Session) -> None:
    """Run suites of frameworks plain and with every app behind the middleware, before each release; minutes each."""
    session.install("pip")
    session.run("python", "-m", "tests.transparency", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure against peers, in a few minutes; ``-- --quick`` for a rough minute. No figure passes or fails."""
    session.install("-e", ".", *_groups("bench"))
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


def _groups(*names: str) -> tuple[str, ...]:
    return tuple(nox.project.dependency_groups(PROJECT, *names))


def _floors() -> list[str]:
    """Return the declared dependencies, each pinned to its lower bound."""
    metadata = PROJECT["project"]
    declared = [*metadata["dependencies"], *metadata["optional-dependencies"]["demo"]]
    return [re.sub(r">=([^,]+).*", r"==\1", each) for each in declared]


def _build(session: nox.Session, dist: Path) -> Path:
    """Return the wheel of ``TESTS_DIST``, which a release has built before, or build one from the checkout."""
    if built := os.environ.get("TESTS_DIST"):
        return next((HERE / built).glob("*.whl"))
    if session.venv_backend == "uv":
        session.run("uv", "build", "-q", "--out-dir", str(dist), str(HERE))
    else:
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(dist), str(HERE))
    return next(dist.glob("*.whl"))


def _ignored(paths: tuple[str, ...]) -> list[str]:
    return [f"--ignore={path}" for path in paths]


def _pytest(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run pytest on `arguments`; tests that are named after ``--`` replace them."""
    given = session.posargs
    nothing_chosen = [5] if given else []
    arguments = () if _names_tests(given) else arguments
    session.run("python", "-m", "pytest", *arguments, *given, env=env, success_codes=[0, *nothing_chosen])


def _names_tests(arguments: list[str]) -> bool:
    return any(Path(each.partition("::")[0]).exists() for each in arguments)


def _has_python(path: str) -> bool:
    return next((HERE / path).rglob("*.py"), None) is not None


_COMPARE_FILES = """
import sys
from pathlib import Path
import stackauth_middleware as package
print("testing", package.__version__, "at", package.__file__)
assert "site-packages" in package.__file__
here, there = (
    {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    for root in (Path(package.__file__).parent, Path(sys.argv[1]))
)
assert here == there, [str(path) for path in here.keys() | there.keys() if here.get(path) != there.get(path)]
"""
