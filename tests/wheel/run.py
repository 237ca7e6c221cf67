"""Build the sdist, the wheel from it, and check that wheel in an environment that has nothing else.

Then check the types of a project that uses it.

Usage: ``python tests/wheel/run.py SCRATCH_DIRECTORY``, with ``build``, ``twine``, ``uv``, mypy,
pyright and ty installed.
"""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from check_types import check_types

ROOT = Path(__file__).resolve().parents[2]
SOURCE = "https://example.org/tokenwire"  # of a wheel that says where its repository is
SOURCES = (ROOT / "core", ROOT / "adapters")
DOCUMENTS = "share/doc/tokenwire/"
# The extras of what tests/wheel/consumer imports.
CONSUMED = "anthropic,gateway,openai,pytest"
BUILD = (sys.executable, "-m", "build", "--installer", "uv")
FRESH = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    print("$", *command, flush=True)
    subprocess.run(command, cwd=cwd, env=FRESH, check=True)


def build(dist: Path) -> Path:
    run(*BUILD, "--outdir", dist)
    (wheel,) = dist.glob("*.whl")
    return wheel


def documents() -> list[Path]:
    """What is installed to read: pages and pictures, not what makes a site of them."""
    pages = [
        page for folder in ("", "how-to", "pictures") for page in (ROOT / "docs" / folder).iterdir()
    ]
    return [
        ROOT / "README.md",
        *(page for page in pages if page.suffix in (".md", ".svg", ".webp")),
    ]


def check_files(wheel: Path) -> None:
    """Fail when a source file is not in the wheel, or a file in the wheel has no source."""
    sources = {
        path.relative_to(root).as_posix()
        for root in SOURCES
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    sources |= {f"{DOCUMENTS}{path.relative_to(ROOT).as_posix()}" for path in documents()}
    packed = {
        name.partition(".data/data/")[2] or name
        for name in zipfile.ZipFile(wheel).namelist()
        if ".dist-info/" not in name
    }
    if sources != packed:
        sys.exit(f"missing from the wheel: {sources - packed}; unexpected: {packed - sources}")
    print(f"{wheel.name} holds all {len(sources)} files of the sources")


# What the sdist has at its top, and nothing else: all that is needed to build, test and read it.
SDIST = {
    *("core", "adapters", "tests", "examples", "docs", "findings", "npm", "benchmarks"),
    *("pyproject.toml", "tox.ini", "LICENSE", "PKG-INFO", ".gitignore"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
}
# What a checkout may have beside its sources.
JUNK = {
    "__pycache__",
    "node_modules",
    ".venv",
    ".tox",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
}


def check_sdist(sdist: Path) -> None:
    """Fail when the sdist lacks something at its top, or has more, or holds what is built."""
    with tarfile.open(sdist) as archive:
        paths = [PurePosixPath(name).parts[1:] for name in archive.getnames()]
    top = {parts[0] for parts in paths if parts}
    if top - {".gitignore"} != SDIST - {".gitignore"}:
        sys.exit(f"missing from the sdist: {SDIST - top}; unexpected: {top - SDIST}")
    junk = sorted("/".join(parts) for parts in paths if JUNK & set(parts))
    if junk:
        sys.exit(f"in the sdist, but no source: {junk[:5]}")
    print(f"{sdist.name} holds {len(paths)} files, and nothing that is built")


def check_description(packed: Path, source: str | None) -> None:
    """Fail when what a package index shows has a link or a picture that leads nowhere.

    :param source: the address of the repository, where links and pictures lead.
    """
    if packed.suffix == ".whl":
        archive = zipfile.ZipFile(packed)
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name)
    else:
        with tarfile.open(packed) as tar:
            (name,) = (n for n in tar.getnames() if PurePosixPath(n).parts[1:] == ("PKG-INFO",))
            metadata = tar.extractfile(name).read()
    text = email.message_from_bytes(metadata).get_payload(decode=True).decode()
    readme = (ROOT / "README.md").read_text("utf-8")
    link = re.compile(r"\]\(([^)]+)\)|\b(?:href|src)=[\"']?([^\"'>]+)")
    links, wanted = link.findall(text), link.findall(readme) if source else []
    elsewhere = [link for link in map("".join, links) if not link.startswith(f"{source}/")]
    if elsewhere or len(links) != len(wanted) or not text.lstrip().startswith("# tokenwire"):
        sys.exit(f"{packed.name}: {len(links)} links for {len(wanted)}, of which {elsewhere}")
    print(f"{packed.name}: {len(links)} links in the description")


def with_source(sdist: Path, scratch: Path) -> Path:
    """Build a wheel that says where its repository is."""
    with tarfile.open(sdist) as tar:
        tar.extractall(scratch / "published", filter="data")
    (root,) = (scratch / "published").iterdir()
    (root / "PKG-INFO").unlink()  # from which hatchling would take the description
    with (root / "pyproject.toml").open("a", encoding="utf-8") as project:
        project.write(f'\n[project.urls]\nSource = "{SOURCE}"\n')
    run(*BUILD, "--wheel", "--outdir", scratch / "published-dist", cwd=root)
    (wheel,) = (scratch / "published-dist").iterdir()
    return wheel


def install(requirement: str | Path, environment: Path) -> Path:
    """Install into an environment that has nothing else; return its Python."""
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, environment)
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, requirement)
    return python


def main(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    wheel = build(scratch / "dist")
    check_files(wheel)
    (sdist,) = wheel.parent.glob("*.tar.gz")
    check_sdist(sdist)
    published = {sdist: None, wheel: None, with_source(sdist, scratch): SOURCE}
    run(sys.executable, "-m", "twine", "check", "--strict", *published)
    for packed, source in published.items():
        check_description(packed, source)
    python = install(wheel, scratch / "clean")
    # In the scratch directory, so that nothing but the installed wheel can be imported.
    run(python, "-W", "error", ROOT / "tests" / "wheel" / "check.py", cwd=scratch)
    check_types(scratch, install(f"{wheel}[{CONSUMED}]", scratch / "typed"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
