"""The documentation site, built from the same files that people read in the repository.

    sphinx-build -W --keep-going -c docs . build/site

The source folder is the repository itself, so that README.md, CHANGELOG.md and the pages in docs/ keep their places and
a relative link works both on a code host and in the site. The result needs no network: no fonts, scripts or search
from other hosts.
"""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "nuclei-edge"
author = copyright = PROJECT["authors"][0]["name"]  # noqa: A001 - the name that Sphinx reads
version = release = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["*.md", ".github/CONTRIBUTING.md", "benchmarks/**.md", "docs/*.md"]
exclude_patterns = [".git", ".venv", "build", "shared", "**/node_modules", "tests", "train", "export", "runtime"]
"""Folders without pages, so that looking for pages takes no time."""

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_static_path = ["site.css"]
html_css_files = ["site.css"]
smartquotes = False  # "--option" keeps its two hyphens

myst_heading_anchors = 3
default_role = "literal"  # docstrings mark code with single backticks
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
maximum_signature_line_length = 80

HOME = (
    '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html"><a href="docs/index.html">Start</a>\n'
)


class CommandReference(SphinxDirective):
    """``{command} nuclei-infer``: the help text, arguments and options of a command, read from its function."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed reference."""
        (script,) = self.arguments
        return self.parse_text_to_nodes("\n".join(command_lines(script)))


class ColumnReference(SphinxDirective):
    """``{columns} nuclei`` or ``images``: a table of every column of a table; ``earlier``: the names that some had."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed table."""
        columns = import_module("nuclei_runtime.steps.columns")
        if self.arguments == ["earlier"]:
            head, rows = ("earlier name", "name"), columns.OLD_NAMES.items()
        elif self.arguments == ["nuclei"]:
            head = ("column", "unit", "meaning", "formula")
            rows = [(one.name, one.unit, one.meaning, one.formula) for one in columns.NUCLEI_COLUMNS]
        else:
            names = import_module("nuclei_runtime.results.outcome").IMAGES_COLUMNS
            describe = import_module("nuclei_runtime.results.images_columns").describe_images_column
            head = ("column", "unit", "meaning")
            rows = [(one.name, one.unit, one.meaning) for one in map(describe, names)]
        lines = [head, ["---"] * len(head), *([f"`{row[0]}`", *map(_cell, row[1:])] for row in rows)]
        return self.parse_text_to_nodes("\n".join(f"| {' | '.join(line)} |" for line in lines))


class ApiReference(SphinxDirective):
    """``{api} nuclei_runtime``: every name in a package's ``__all__``, from its docstring, under a heading each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed reference."""
        (package,) = self.arguments
        text = "\n".join(api_lines(package))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def api_lines(package: str) -> Iterator[str]:
    """Yield a package's reference, in Markdown around Sphinx's directives."""
    module = import_module(package)
    public = {name: getattr(module, name) for name in module.__all__}  # imported on first use: automodule misses them
    for name, item in sorted(public.items(), key=lambda pair: _is_error(pair[1])):  # errors last
        yield f"\n## `{name}`\n\n```{{eval-rst}}"
        if inspect.isclass(item):
            yield f".. {'autoexception' if _is_error(item) else 'autoclass'}:: {package}.{name}\n   :members:"
        elif callable(item):
            yield f".. autofunction:: {package}.{name}"
        else:
            yield f".. data:: {package}.{name}\n"
            yield from (f"   {line}" for line in data_docs(package, name))
        yield "```"


def _is_error(item: Any) -> bool:
    return inspect.isclass(item) and issubclass(item, Exception)


def data_docs(package: str, name: str) -> list[str]:
    """Return the text below the assignment of a constant, in the module where that is."""
    for module in [one for one in sys.modules if one.startswith(f"{package}.")]:
        if name in vars(sys.modules[module]):
            docs = ModuleAnalyzer.for_module(module).find_attr_docs()
            if ("", name) in docs:
                return docs["", name]
    return []


def command_lines(script: str) -> Iterator[str]:
    """Yield a command's reference in Markdown."""
    module_name, function = PROJECT["scripts"][script].split(":")
    module = import_module(module_name)
    with mock.patch.object(module, "run_command") as run:  # the entry point hands its function over
        getattr(module, function)()
    app = typer.Typer(add_completion=False)
    app.command()(run.call_args.args[0])
    command = typer.main.get_command(app)
    parameters = [one for one in command.params if one.name != "help"]
    arguments = [one for one in parameters if one.param_type_name == "argument"]
    options = [one for one in parameters if one.param_type_name == "option"]
    needed = [f"{one.opts[0]} {_value(one)}" for one in options if one.required]
    yield "```text"
    yield " ".join([script, *map(_value, arguments), *needed, "[OPTIONS]" * (len(options) > len(needed))]).rstrip()
    yield "```"
    yield ""
    yield re.sub(r"\.\n(?=\S)", ".\\\n", command.help or "")  # a list of sentences keeps its lines
    for title, rows in (("Argument", arguments), ("Option", options)):
        if rows:
            yield from ("", f"| {title} | Meaning |", "|---|---|")
            yield from (f"| {_name(one)} | {_meaning(one)} |" for one in rows)


def _value(parameter: Any) -> str:
    """Return the placeholder of a parameter's value, nothing for a switch."""
    if getattr(parameter, "is_flag", False):
        return ""
    if isinstance(parameter.default, Enum):
        return "|".join(choice.value for choice in type(parameter.default))
    return str(parameter.metavar or parameter.name.upper())


def _name(parameter: Any) -> str:
    first = [] if parameter.param_type_name == "argument" else parameter.opts[:1]
    return _cell(f"`{' '.join([*first, _value(parameter)]).strip()}`")


def _meaning(parameter: Any) -> str:
    default = getattr(parameter.default, "value", parameter.default)
    has_one = not (parameter.required or getattr(parameter, "is_flag", False) or default in (None, (), []))
    return _cell((parameter.help or "") + f" Default: `{default}`." * has_one)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def show_default_factories(*hooked: Any) -> tuple[str, str] | None:
    """Write ``...`` for the default of a field that a dataclass computes: Sphinx cannot parse ``<factory>``."""
    signature, returned = hooked[-2:]
    return (signature.replace("<factory>", "..."), returned) if signature else None


def add_navigation(_: Sphinx, docname: str, source: list[str]) -> None:
    """Make the lists of links under the headings of docs/index.md the site's navigation."""
    if docname != root_doc:
        return
    for title, body in re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", source[0], re.MULTILINE):
        pages = re.findall(r"^- \[([^\]]+)\]\(([^)]+)\.md\)", body, re.MULTILINE)
        entries = "\n".join(f"{name} <{page}>" for name, page in pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{entries}\n```\n"


def write_home(app: Sphinx, error: Exception | None) -> None:
    """Lead from the site's root to its first page."""
    if error is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(HOME, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    app.add_directive("api", ApiReference)
    app.add_directive("columns", ColumnReference)
    app.add_directive("command", CommandReference)
    app.connect("autodoc-process-signature", show_default_factories)
    app.connect("source-read", add_navigation)
    app.connect("build-finished", write_home)
