"""What the documentation says can be checked: its length, its links, its commands, its metadata."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from cpcdr.commands import COMMANDS, config_of
from cpcdr.runtime.cli import parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:ray exec cluster.yaml ')?cpcdr ([^'#\n]+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"\s+", "-", heading) for heading in plain}


def broken_links(page: Path, text: str) -> list[str]:
    """Links to files or headings of the repository that are not there."""
    broken = []
    for link in LINK.findall(text):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_readme_is_read_in_minutes() -> None:
    words = len((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert words <= 1500, f"README.md has {words} words: move some into docs/"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_noticed() -> None:
    text = "[a](docs/guide.md#files) [b](docs/none.md) [c](docs/guide.md#none) [d](https://x.org)"
    assert broken_links(ROOT / "README.md", text) == ["docs/none.md", "docs/guide.md#none"]


def printed_commands(text: str) -> list[list[str]]:
    """The commands of the code blocks of a page, split as a shell does."""
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    return [shlex.split(line.replace("SEED", "0")) for line in COMMAND.findall(blocks)]


ALL_COMMANDS = [command for page in PAGES for command in printed_commands(page.read_text("utf-8"))]


@pytest.mark.parametrize("command", ALL_COMMANDS, ids=" ".join)
def test_printed_commands_are_understood(command: list[str]) -> None:
    name, *arguments = command
    parse(config_of(name.replace("-", "_")), "", arguments)


def test_every_command_is_printed_somewhere() -> None:
    printed = {command[0].replace("-", "_") for command in ALL_COMMANDS}
    assert printed == set(COMMANDS)


def test_citation_and_package_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert "arXiv:2211.14074" in str(citation["references"])


def test_the_site_fetches_nothing() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert config["theme"]["font"] is False
    assert config["strict"] is True
    assert not {"extra_javascript", "extra_css"} & set(config)
