"""Write the pages that are printed from the code into docs/ of this repository, and remove schemas of what is gone."""

from pathlib import Path

from streams.runtime.documentation import pages

DOCS = Path(__file__).parents[3] / "docs"


def main() -> None:
    """Write what differs, and name it."""
    written = pages()
    for path, text in written.items():
        page = DOCS / path
        page.parent.mkdir(parents=True, exist_ok=True)
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
            print(f"docs/{path}")
    for stale in sorted({*DOCS.glob("schemas/*.json")} - {DOCS / path for path in written}):
        stale.unlink()
        print(f"docs/{stale.relative_to(DOCS)}: removed")


if __name__ == "__main__":
    main()
