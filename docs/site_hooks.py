"""What `make docs` adds to the pages of docs/: those of other folders, and another name for the report of the results.

On GitHub, links lead through the repository. On the site, they lead to the pages made of the same files.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FROM_OTHER_FOLDERS = {
    "CITATION.cff": "CITATION.cff",
    "architecture.md": "ARCHITECTURE.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "policies/pong.md": "agents/policies/pong/README.md",
}
"""Files of the site that lie outside docs/: names on the site, and paths in the repository."""
REPORT = "docs/results/index.html"
"""A page of its own, which would lie where the site has docs/results/README.md."""
PAGES = {path: page for page, path in FROM_OTHER_FOLDERS.items()}
PAGES |= {REPORT: "results/report.html", "README.md": "README.md"}
"""Names on the site of what lies elsewhere in the repository; in place of its front page, the site has its own."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from other folders, and give the report another name."""
    for page, path in FROM_OTHER_FOLDERS.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    files.append(File.generated(config, PAGES[REPORT], abs_src_path=str(ROOT / REPORT)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to the site's pages."""
    here = page.file.src_uri
    folder = posixpath.dirname(FROM_OTHER_FOLDERS.get(here, f"docs/{here}"))

    def led(link: re.Match[str]) -> str:
        path, anchor = link[2], link[3] or ""
        full = posixpath.normpath(posixpath.join(folder, path))
        if full not in PAGES and not full.startswith("docs/"):  # not on the site, which mkdocs then says
            return link[0]
        target = PAGES.get(full) or full.removeprefix("docs/")
        return f"{link[1]}{posixpath.relpath(target, posixpath.dirname(here) or '.')}{anchor})"

    return re.sub(r"(\]\()(?![a-z]+:)([^)#\s]+)(#[^)\s]*)?\)", led, markdown)
