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
    os.environ.setdefault("STACKAUTH_SHARED", str(SHARED))

FRAMEWORKS = (
    "tests/frameworks",
    "tests/network/frameworks",
    "tests/integrations",
    "tests/test_readme.py",
    "tests/test_docs.py",
)
SERVERS = ("tests/servers",)
GEVENT = ("tests/gevent",)
ATTACK = ("tests/attack",)
SITE = "tests/test_site.py"
JS = "tests/unit/testing/test_js_sdk.py"
OF_THE_MEMORY = "tests/unit/core/test_tokens.py::test_what_was_said_of_one_header_is_not_said_of_another"
TIMED = ("tests/unit/io", "tests/unit/test_asgi.py", "tests/unit/test_wsgi.py", "tests/network", "tests/load")
"""Tests with real sockets, threads and deadlines: they get the machine to themselves. All others run side by side."""
PACKAGED = (
    "tests/test_structure.py",
    "tests/test_main.py",
    "tests/unit/cli",
    "tests/unit/testing",
    "tests/unit/test_adapters.py",
    "tests/unit/test_asgi.py",
    "tests/unit/test_wsgi.py",
)
"""What an installed package may lack: modules, metadata, the command, the pytest plugin; and a request by each door."""
LEANING = (
    "tests/unit/core/test_tokens.py",
    "tests/unit/core/test_key_sets.py",
    "tests/unit/core/test__handler_api.py",
    "tests/security/test_corpus.py",
    "tests/security/test_oracles.py",
    "tests/security/test_wycheproof.py",
    "tests/unit/io",
    "tests/unit/test_adapters.py",
    "tests/unit/test_asgi.py",
    "tests/unit/test_wsgi.py",
    "tests/unit/cli",
    "tests/unit/testing",
)
"""The tests of all that calls a dependency: PyJWT and its cryptography, both HTTP clients, anyio, asgiref, the demo.

Of those that are timed, the edges' and the doors' bear company: they passed beside each other on a crowded machine.
"""
MUTATED = (
    *("tokens", "credentials", "keyset", "routing", "rules"),
    *("flow_keys", "upstream", "lookup", "profiles", "memory"),
)
"""The modules that judge, decide who asks, and remember: those that tests/security/MUTANTS.md counts."""
ENDS = (PYTHONS[0], *PYTHONS[-2:])
"""The Pythons that run the timed tests, and every hostile token through every door and verifier."""


@nox.session
def lint(session: nox.Session) -> None:
    """Style by ruff; types by mypy and pyright, over the package, the examples and a file per framework."""
    session.install("-e", ".[demo]", *_groups("lint", "test", "frameworks", "gevent"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    typed = [path for path in ("stackauth_middleware", "examples", "tests/typing") if _has_python(path)]
    session.run("mypy", *typed)
    session.run("pyright", "--pythonpath", str(Path(session.bin, "python")))
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
    for builder, fresh in (("html", ("--fresh-env", "--write-all")), ("markdown", ())):
        session.run("sphinx-build", *strict, *fresh, "--builder", builder, "docs", "docs/_build/site")
    _pytest(session, SITE)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the quick suite: all that needs no framework and no server but the demo's."""
    session.install("-e", ".[demo]", *_groups("test"))
    _quick_suite(session)


@nox.session
def frameworks(session: nox.Session) -> None:
    """Run the middleware and the examples under each framework."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers"))
    _pytest(session, "-n", "auto", *FRAMEWORKS)


@nox.session
def servers(session: nox.Session) -> None:
    """Run the middleware under each ASGI and WSGI server, over real sockets."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers"))
    _pytest(session, "-n", "auto", *SERVERS)


@nox.session
def gevent(session: nox.Session) -> None:
    """Run what concerns gevent, which patches the whole process and so has one of its own."""
    session.install("-e", ".[demo]", *_groups("test", "gevent", "servers"))
    _pytest(session, *GEVENT)


@nox.session(default=False)
def corpus(session: nox.Session) -> None:
    """Send all hostile tokens through both verifiers and both doors, as the quick suite does on `ENDS` alone."""
    session.install("-e", ".[demo]", *_groups("test"))
    _pytest(session, "-n", "auto", "tests/security/test_corpus.py", env={"STACKAUTH_ALL_CASES": "1"})


@nox.session
def coverage(session: nox.Session) -> None:
    """Demand all lines and branches of the package: each module by its own test file alone, and combined."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers"))
    session.run("python", "tests/one_file_coverage.py", *session.posargs)


@nox.session(reuse_venv=False)
def wheel(session: nox.Session) -> None:
    """Build the distributions, install the wheel into an empty environment, and test it away from the checkout.

    It has each file of the package, octet for octet; so of its behaviour only what packaging can break is tested.
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
            session.run("python", "-c", _SAY_WHERE, str(HERE / "stackauth_middleware"))
            _pytest(session, "-n", "auto", *PACKAGED, f"--ignore={JS}")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run what leans on a dependency on the lowest versions that the package declares."""
    session.install("-e", ".[demo]", *_floors(), *_groups("test"))
    _pytest(session, "-n", "auto", *LEANING, f"--ignore={JS}")


@nox.session
def js(session: nox.Session) -> None:
    """Run the real JavaScript SDK against the local Stack Auth; needs node and npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        if os.environ.get("CI"):
            session.error("node and npm are not here, and continuous integration has to have them")
        session.skip("node and npm are not here")
    session.install("-e", ".[demo]", *_groups("test"))
    _pytest(session, JS, env={"STACKAUTH_JS": "1"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz for a minute, or as said: ``nox -s fuzz -- --seconds 3600 token``."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        if os.environ.get("CI"):
            session.error("atheris is for Python 3.11 to 3.13, and continuous integration has to have one of them")
        session.skip("atheris is for Python 3.11 to 3.13; run nox by one of them")
    session.install("-e", ".", *_groups("test", "fuzz"))
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def attack(session: nox.Session) -> None:
    """Attack every framework and server with random requests for a minute, or as said; see ``-- --help``."""
    session.install("-e", ".[demo]", *_groups("test", "frameworks", "servers"))
    if not session.posargs:
        _pytest(session, *ATTACK)
    session.run("python", "-m", "tests.attack", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Mutate the modules that judge, in a copy, and list what their tests let live: ``nox -s mutants -- keyset``."""
    session.install("-e", ".", *_groups("test", "mutants"))
    for name in session.posargs or MUTATED:
        with tempfile.TemporaryDirectory() as folder:
            away = Path(folder)
            for part in ("stackauth_middleware", "tests"):
                shutil.copytree(HERE / part, away / part, ignore=shutil.ignore_patterns("__pycache__"))
            # mutmut passes over decorated functions; without its memory this one does the same, but for one test.
            tokens = away / "stackauth_middleware" / "_tokens.py"
            tokens.write_text(re.sub(r"(?m)^@lru_cache\(.*\n", "", tokens.read_text("utf-8")), "utf-8")
            settings = {
                "source_paths": ["stackauth_middleware"],
                "only_mutate": [f"stackauth_middleware/_{name}.py"],
                "pytest_add_cli_args_test_selection": [f"tests/unit/core/test_{name}.py"],
                "also_copy": ["tests"],
                "pytest_add_cli_args": ["-p", "no:cacheprovider", f"--deselect={OF_THE_MEMORY}"],
            }
            table = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
            project = (HERE / "pyproject.toml").read_text("utf-8")
            (away / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{table}", "utf-8")
            with session.chdir(away):
                session.run("mutmut", "run", "--max-children", "1")
                session.run("mutmut", "results")


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Send half an hour of traffic through both doors while Stack Auth fails; see ``-- --help``."""
    session.install("-e", ".[demo]", *_groups("test", "servers"))
    session.run("python", "-m", "tests.load", *session.posargs)


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
    """Return the wheel of ``STACKAUTH_DIST``, which a release has built before, or build one from the checkout."""
    if built := os.environ.get("STACKAUTH_DIST"):
        return next((HERE / built).glob("*.whl"))
    if session.venv_backend == "uv":
        session.run("uv", "build", "-q", "--out-dir", str(dist), str(HERE))
    else:
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(dist), str(HERE))
    return next(dist.glob("*.whl"))


def _quick_suite(session: nox.Session) -> None:
    """Run what is not timed on all cores, and what is timed after it, one test at a time."""
    beside = (*FRAMEWORKS, *SERVERS, *GEVENT, *ATTACK, *TIMED, JS, SITE)
    env = {"STACKAUTH_ALL_CASES": "1"} if session.python in ENDS else None
    _pytest(session, "-n", "auto", "tests", *(f"--ignore={path}" for path in beside), env=env)
    if session.python in ENDS and not _names_tests(session.posargs):
        _pytest(session, *TIMED, *(f"--ignore={path}" for path in FRAMEWORKS))


def _pytest(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run pytest on `arguments`; tests that were named after ``--`` take their place."""
    given = session.posargs
    nothing_chosen = [5] if given else []
    arguments = () if _names_tests(given) else arguments
    session.run("python", "-m", "pytest", *arguments, *given, env=env, success_codes=[0, *nothing_chosen])


def _names_tests(arguments: list[str]) -> bool:
    return any(Path(each.partition("::")[0]).exists() for each in arguments)


def _has_python(path: str) -> bool:
    return next((HERE / path).rglob("*.py"), None) is not None


_SAY_WHERE = """
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
