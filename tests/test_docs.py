"""The documentation: the site builds without a warning, works offline, and names only what exists."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

import nuclei_runtime
from nuclei_runtime.results.outcome import IMAGES_COLUMNS
from nuclei_runtime.steps.columns import NUCLEI_COLUMNS, OLD_NAMES
from nuclei_runtime.steps.flags import Flag

ROOT = Path(__file__).parents[1]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / ".github" / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
"""What a browser fetches by itself, as against what the reader clicks on."""


class Page(HTMLParser):
    """What one page of the site refers to, and what can be referred to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (tag, name) in LOADED:
                self.loaded.append(value)
            elif value and (tag, name) == ("a", "href"):
                self.linked.append(value)
            elif value and name == "id":
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as docs/install.md says, with warnings as errors."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page(path) for path in site.rglob("*.html")}
    assert len(found) > len(PAGES)
    return found


def test_every_link_within_the_site_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for link in page.linked + page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_relative_to(site), link
            missing_anchor = parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            if not target.exists() or missing_anchor:
                lost.append(f"{path.relative_to(site)}: {link}")
    assert lost == []


def test_no_row_of_a_table_is_left_as_text(pages: dict[Path, Page]) -> None:
    """As it is after a blank line, or below a head with fewer columns than its rule."""
    assert [path.name for path, page in pages.items() if re.search(r"<p>\s*\|", page.text)] == []


def test_the_site_loads_nothing_from_other_hosts(site: Path, pages: dict[Path, Page]) -> None:
    assert [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc] == []
    for path in site.rglob("*.css"):
        assert re.findall(r"""(?:url\(|@import)\s*['"]?(?:https?:)?//""", path.read_text(encoding="utf-8")) == [], path


def test_the_search_index_is_part_of_the_site(site: Path) -> None:
    assert "overlay_scal" in (site / "searchindex.js").read_text(encoding="utf-8")


def test_the_root_leads_to_the_first_page(pages: dict[Path, Page], site: Path) -> None:
    assert pages[site / "index.html"].linked == ["docs/index.html"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_command_reference_has_every_option(script: str, pages: dict[Path, Page], site: Path) -> None:
    page = pages[site / "docs" / "cli.html"].text
    section = page.partition(f'<section id="{script}">')[2].partition("</section>")[0]
    options = set(re.findall(r"--[a-z][a-z0-9-]+", help_of(script))) - {"--help"}
    assert options <= set(re.findall(r"--[a-z][a-z0-9-]+", section))


def test_the_api_reference_has_every_public_name(pages: dict[Path, Page], site: Path) -> None:
    anchors = pages[site / "docs" / "api.html"].anchors
    assert {f"nuclei_runtime.{name}" for name in nuclei_runtime.__all__} <= anchors


@cache
def help_of(script: str) -> str:
    path = Path(sysconfig.get_path("scripts")) / script
    return subprocess.run([path, "--help"], capture_output=True, text=True, encoding="utf-8", check=True).stdout


def commands(text: str) -> set[str]:
    """Return every nuclei-... command in the fenced blocks that are not Python or plain text."""
    found = re.findall(r"```(\w*)\n(.*?)\n\s*```", text, re.DOTALL)
    lines = (
        line.partition(" #")[0] for language, block in found if language in ("", "bash") for line in block.split("\n")
    )
    return {part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("nuclei-")}


@pytest.mark.parametrize("command", sorted({command for text in PAGES.values() for command in commands(text)}))
def test_a_command_exists_with_the_options_that_are_named(command: str) -> None:
    script, *words = command.split()
    assert script in SCRIPTS
    for word in words:
        if word.startswith("-"):
            assert re.search(rf"{word}\b", help_of(script)), f"{script} has no option {word}"


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_in_the_repository(page: str) -> None:
    """On a code host, where the same files are read, links have to work too."""
    text = PAGES[page]
    linked = {(ROOT / page).parent / path for path in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", text)}
    named = {
        ROOT / path for path in re.findall(r"[`\s(]((?:benchmarks|tests|runtime|train|export)/[\w./-]+\.\w+)", text)
    }
    assert [path for path in linked | named if not path.exists()] == []


def test_the_results_page_names_every_file_that_a_run_writes(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "image.png")
    script = Path(sysconfig.get_path("scripts")) / "nuclei-infer"
    subprocess.run([script, "image.png", "--out", "results"], cwd=tmp_path, check=True, capture_output=True)
    page = PAGES["docs/runs.md"]
    written = [path.name + "/" * path.is_dir() for path in (tmp_path / "results").iterdir()]
    assert [name for name in written if f"`{name}" not in page] == []


def test_the_columns_page_has_every_column_and_every_earlier_name(pages: dict[Path, Page], site: Path) -> None:
    page = pages[site / "docs" / "columns.html"].text
    for name in [*(column.name for column in NUCLEI_COLUMNS), *OLD_NAMES, *IMAGES_COLUMNS]:
        assert f">{name}</span>" in page, name


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_quoted_from_memory(page: str) -> None:
    assert "as remembered" not in PAGES[page]


def test_the_messages_in_the_table_of_refusals_are_those_of_the_code() -> None:
    """So that who searches the page for the words of a message finds them."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "runtime").rglob("*.py"))
    code = re.sub(r'"\n\s*f?"', "", code)  # the parts of one message
    table = PAGES["docs/images.md"].partition("## What is refused")[2].partition("\n## ")[0]
    messages = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]
    words = [part.strip(" ,") for message in messages for part in re.split(r"\.\.\.|;|\?", message)]
    assert len(words) > 20
    assert [part for part in words if part not in code] == []


def test_the_page_on_trust_has_every_flag_in_its_words() -> None:
    for flag in Flag:
        assert f"| `{flag}` | {flag.reason} | {flag.advice} |" in PAGES["docs/confidence.md"], flag
