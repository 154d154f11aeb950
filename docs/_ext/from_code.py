"""Sphinx directives that write tables from the code, and a check that every public name is documented.

Each directive makes Markdown, so its page has to be MyST. What the code does not contain (what a front end does for
an error code, for example) is in the directive's body, one line ``NAME: text`` for each table row. A row without a
line, or a line without a row, is an error, so no table gets out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import stackauth_middleware
from stackauth_middleware import ErrorCode, StackAuthConfig
from stackauth_middleware._core.config import typed_settings
from stackauth_middleware._core.key_sets import ACTIONS
from stackauth_middleware._core.readers import item_type, members

logger = logging.getLogger(__name__)

COMMAND = [sys.executable, "-m", "stackauth_middleware"]
PACKAGE = Path(stackauth_middleware.__file__).parent

LAYERS = {
    "contrib/": "one module for each framework, and what its users expect",
    "_cli/, __main__.py": "the command",
    "testing/, _pytest_plugin.py": "the local Stack Auth and the pytest fixture",
    "API": "the middlewares, the verifiers, `require_user` and the like, the adapters",
    "_io/": "runners and HTTP clients",
    "_core/": "every decision; no I/O",
    "errors.py, _version.py": "error codes, exceptions, the version",
}
"""From the outermost to the innermost. "API" is every other module outside the folders."""


class FromCode(SphinxDirective):
    """Base: a directive whose content is the Markdown that `markdown` returns."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        try:
            lines = list(self.markdown())
        except ValueError as error:
            raise self.error(str(error)) from error
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, holder)
        return holder.children

    def markdown(self) -> Iterable[str]:
        raise NotImplementedError

    def described(self, names: Iterable[str]) -> dict[str, str]:
        """Return the body's text for each of `names`.

        Raises:
            ValueError: the names of the body are not exactly these.
        """
        given = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in self.content if line)}
        wanted = list(names)
        missing, unknown = [each for each in wanted if not given.get(each)], sorted(given.keys() - set(wanted))
        if missing or unknown:
            raise ValueError(f"without a line here: {missing}; not in the code: {unknown}")
        return given


class SettingsTable(FromCode):
    """The settings: name, type, default and meaning, of the fields and docstrings of `StackAuthConfig`."""

    def markdown(self) -> Iterable[str]:
        settings = [each for each in dataclasses.fields(StackAuthConfig) if each.init]
        meanings = field_docs(StackAuthConfig)
        undocumented = [each.name for each in settings if each.name not in meanings]
        if undocumented:
            raise ValueError(f"settings without a description: {undocumented}")
        rows = [(code(each.name), type_of(each), default_of(each), meanings[each.name]) for each in settings]
        return table(("setting", "type", "default", "meaning"), rows)


class EnvironmentTable(FromCode):
    """The environment variables of each setting, and how its value is written."""

    def markdown(self) -> Iterable[str]:
        rows = [
            (code(name), ", ".join(map(code, each.variables)), written(each.hint))
            for name, each in typed_settings().items()
            if each.variables
        ]
        return table(("setting", "variables, the strongest first", "written as"), rows)


class ErrorCodeTable(FromCode):
    """The error codes, with what a client does for each: a line ``code: text`` in the body."""

    def markdown(self) -> Iterable[str]:
        actions = self.described(each.value for each in ErrorCode)
        rows = [
            (code(each.value), str(each.status), challenge_of(each), each.message, actions[each.value])
            for each in ErrorCode
        ]
        return table(("code", "status", "`WWW-Authenticate` error", "message", "what a client does"), rows)


class KeySetTable(FromCode):
    """What is done for a token, by the state of its key set: a line ``ACTION: text`` in the body for each action."""

    def markdown(self) -> Iterable[str]:
        texts = self.described(dict.fromkeys(action.name for action in ACTIONS.values()))
        rows = [
            (words(age), yes(known), yes(may_fetch), texts[action.name])
            for (age, known, may_fetch), action in ACTIONS.items()
        ]
        return table(("age of the key set", "key id known", "fetch allowed now", "what is done"), rows)


class LayerTable(FromCode):
    """The layers of the package, and the layers that each one imports, which have to be below it."""

    def markdown(self) -> Iterable[str]:
        imported: dict[str, set[str]] = {layer: set() for layer in LAYERS}
        for path in modules():
            layer = layer_of(path)
            imported[layer] |= {layer_of(each) for each in imports_of(path)} - {layer}
        order = list(LAYERS)
        upwards = [f"{a} from {b}" for a in order for b in imported[a] if order.index(b) < order.index(a)]
        if upwards:
            raise ValueError(f"layers that import from above: {upwards}")
        rows = [
            (name, LAYERS[name], ", ".join(each for each in LAYERS if each in imported[name]) or "none")
            for name in LAYERS
        ]
        return table(("layer", "what it does", "imports"), rows)


class ModuleTable(FromCode):
    """Every module outside `testing` and `_cli`, with the first sentence of its docstring."""

    def markdown(self) -> Iterable[str]:
        rows = [
            (code(path.relative_to(PACKAGE).as_posix()), first_line_of(path))
            for path in modules()
            if path.relative_to(PACKAGE).parts[0] not in ("testing", "_cli") and path.name != "__init__.py"
        ]
        return table(("module", "what it is"), rows)


class BenchmarkTable(FromCode):
    """The summary of the committed benchmark run."""

    def markdown(self) -> Iterable[str]:
        sys.path.insert(0, str(PACKAGE.parent))
        try:
            report = importlib.import_module("tests.benchmarks.report")
        finally:
            sys.path.pop(0)
        results = json.loads((PACKAGE.parent / "tests/benchmarks/results/bench.json").read_text("utf-8"))
        measured = [report.benchmark_from_json(each) for each in results["benchmarks"]]
        return [*report.summary_table(measured).splitlines(), "", report.machine_line(results["machine"])]


class CommandHelp(FromCode):
    """The ``--help`` of the command and of each of its subcommands."""

    def markdown(self) -> Iterable[str]:
        overview = help_of()
        commands = re.findall(r"^ {4}(\w[\w-]*)(?:  |$)", overview, re.MULTILINE)
        if not commands:
            raise ValueError("the help names no subcommand")
        yield from fenced(overview)
        for name in commands:
            yield from ("", f"**`stackauth-middleware {name}`**", "")
            yield from fenced(help_of(name))


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return next((layer for layer in LAYERS if first in layer.replace("/", "").split(", ")), "API")


def imports_of(path: Path) -> Iterator[Path]:
    """Yield the modules of the package that `path` imports, also where it does so in a function."""
    folder = path.parent
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = folder.joinpath(*[".."] * (node.level - 1), *(node.module or "").split(".")).resolve()
            for alias in node.names:
                candidates = (base / f"{alias.name}.py", base / alias.name / "__init__.py", base.with_suffix(".py"))
                yield next((each for each in candidates if each.exists()), base / "__init__.py")


def first_line_of(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    if not text:
        raise ValueError(f"{path.name} has no docstring")
    return re.split(r"(?<=\.)\s", " ".join(text.partition("\n\n")[0].split()), maxsplit=1)[0].rstrip(":")


def field_docs(cls: type) -> dict[str, str]:
    """Return the docstring below each field of `cls`, on one line."""
    found = ModuleAnalyzer.for_module(cls.__module__).find_attr_docs()
    return {name: " ".join(" ".join(lines).split()) for (owner, name), lines in found.items() if owner == cls.__name__}


def type_of(field: dataclasses.Field[Any]) -> str:
    return " or ".join(code(part) for part in str(field.type).split(" | "))  # a bar would end the cell


def default_of(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return code(repr(field.default))
    return code(repr(field.default_factory())) if field.default_factory is not dataclasses.MISSING else "required"


def written(hint: Any) -> str:
    """Return how a value of this type is written in an environment variable."""
    item = item_type(hint)
    if item is not None:
        return f"list: {written(item)}"
    forms: dict[str, None] = {}
    for each in members(hint):
        if get_origin(each) is Literal:
            forms |= dict.fromkeys(code(choice) for choice in get_args(each))
        elif get_origin(each) is Callable:
            forms["`module:function`"] = None
        elif each in _WRITTEN:
            forms[_WRITTEN[each]] = None
    return " or ".join(forms)


_WRITTEN = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text", type(None): "`none`"}


def challenge_of(error: ErrorCode) -> str:
    return "no challenge" if error.challenge is None else code(error.challenge) if error.challenge else "none"


def words(value: object) -> str:
    return value.name.lower().replace("_", " ") if isinstance(value, Enum) else str(value)


def yes(value: bool) -> str:  # noqa: FBT001
    return "yes" if value else "no"


def code(text: object) -> str:
    return f"`{text}`"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = list(head)
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def fenced(text: str) -> Iterator[str]:
    yield from ("```text", *text.strip("\n").splitlines(), "```")


def help_of(*command: str) -> str:
    env = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run([*COMMAND, *command, "--help"], capture_output=True, text=True, check=True, env=env)
    return done.stdout


def public_names() -> Iterator[tuple[str, str, object]]:
    """Yield module, name and object for each name in the ``__all__`` of a module without an underscore."""
    found = pkgutil.walk_packages(stackauth_middleware.__path__, f"{stackauth_middleware.__name__}.")
    names = [each.name for each in found if not any(part.startswith("_") for part in each.name.split("."))]
    for name in (stackauth_middleware.__name__, *names):
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            yield name, public, getattr(module, public)


def public_members(cls: type) -> Iterator[str]:
    """Yield the names of the functions and properties that `cls` defines."""
    for name, value in vars(cls).items():
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, (property, staticmethod))):
            yield name


def undocumented(documented: set[str]) -> list[str]:
    """Return the public names, and members of public classes, that are not among `documented`.

    An object that several modules export needs a place under one of its names.
    """
    places: dict[int, list[str]] = {}
    for module, name, value in public_names():
        places.setdefault(id(value), []).append(f"{module}.{name}")
    values = {f"{module}.{name}": value for module, name, value in public_names()}
    missing = []
    for names in places.values():
        here = [name for name in names if name in documented]
        if not here:
            missing.append(names[0])
            continue
        value = values[here[0]]
        if inspect.isclass(value) and value.__module__.startswith(stackauth_middleware.__name__):
            members = (f"{here[0]}.{member}" for member in public_members(value))
            missing += [each for each in members if each not in documented]
    return missing


def without_example() -> list[str]:
    """Return the public classes and functions of the package whose docstring has no example that compiles."""
    found = []
    for module, name, value in public_names():
        ours = getattr(value, "__module__", "").startswith(stackauth_middleware.__name__)
        if ours and (inspect.isclass(value) or inspect.isfunction(value)):
            block = re.search(r"::\n\n((?:    .*\n|\n)+)", f"{inspect.getdoc(value)}\n")
            if block is None:
                found.append(f"{module}.{name}")
            else:
                compile(f"async def example():\n{block[1]}", f"{module}.{name}", "exec")
    return found


def check_public_names(_app: Sphinx, env: BuildEnvironment) -> None:
    for name in undocumented(set(env.domains.python_domain.objects)):
        logger.warning("public name without documentation: %s", name)
    for name in without_example():
        logger.warning("public name without an example: %s", name)


def set_up_django(app: Sphinx) -> None:
    """Configure Django, without which its modules cannot be imported."""
    from django.conf import settings

    if not settings.configured:
        settings.configure()


def write_llms_txt(app: Sphinx, error: Exception | None) -> None:
    """Write ``llms.txt`` (llmstxt.org): every page of the toctrees, with its first sentence, linked as Markdown."""
    if error is not None or app.builder.name != "html":
        return
    root = app.env.get_doctree(app.config.root_doc)
    lines = [f"# {app.config.project}", "", f"> {app.config.html_short_title}"]
    for tree in root.findall(lambda node: node.tagname == "toctree"):
        lines += ["", f"## {tree['caption']}", ""]
        for _, page in tree["entries"]:
            lines.append(f"- [{app.env.titles[page].astext()}]({page}.md): {first_sentence(app.env.get_doctree(page))}")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines) + "\n", "utf-8")


def first_sentence(page: nodes.document) -> str:
    paragraph = next(iter(page.findall(nodes.paragraph)), None)
    if paragraph is None:
        raise SphinxError(f"{page['source']} has no paragraph, and llms.txt needs its first sentence")
    return re.split(r"(?<=[.:])\s", " ".join(paragraph.astext().split()), maxsplit=1)[0]


def plain_annotations(*args: Any) -> tuple[str | None, str | None]:
    """Show ``Annotated[T, <object at 0x...>]`` in signatures as ``T``: the address differs in every build."""
    signature, returns = args[-2:]
    return (signature and re.sub(r"(?:~?typing\.)?Annotated\[([^,<>]+), <[^<>]*>\]", r"\1", signature), returns)


def spell_out_abbreviations(app: Sphinx, doctree: nodes.document, _page: str) -> None:
    """Turn the marks ``*`` and ``/`` of signatures into text: the Markdown builder knows no abbreviations."""
    if app.builder.name == "markdown":
        for node in list(doctree.findall(nodes.abbreviation)):
            node.replace_self(nodes.Text(node.astext()))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("environment-table", EnvironmentTable)
    app.add_directive("error-code-table", ErrorCodeTable)
    app.add_directive("key-set-table", KeySetTable)
    app.add_directive("command-help", CommandHelp)
    app.add_directive("layer-table", LayerTable)
    app.add_directive("module-table", ModuleTable)
    app.add_directive("benchmark-table", BenchmarkTable)
    app.connect("builder-inited", set_up_django)
    app.connect("autodoc-process-signature", plain_annotations)
    app.connect("doctree-resolved", spell_out_abbreviations)
    app.connect("env-check-consistency", check_public_names)
    app.connect("build-finished", write_llms_txt)
    return {"parallel_read_safe": False}
