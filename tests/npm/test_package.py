"""What `npm pack` packs, what tools say of it, and how large it is."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from pathlib import Path

import pytest

import tokenwire
from tests.npm.package import ROOT, build, esbuild, run, tools, with_package

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent
STATIC = ROOT / "adapters" / "tokenwire_adapters" / "_static"
CORE_LIMIT = 8 * 1024  # bytes of the client, minified and compressed


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that would be published."""
    folder = tmp_path_factory.mktemp("packed")
    npm = shutil.which("npm")
    assert npm is not None
    build(folder / "package")
    run(npm, "pack", "--silent", "--pack-destination", folder, cwd=folder / "package")
    (archive,) = folder.glob("*.tgz")
    return archive


def bin_of(name: str) -> Path:
    return tools().folder / "node_modules" / ".bin" / name


def test_what_is_packed(packed: Path) -> None:
    sources = [file.name for file in (ROOT / "npm" / "src").iterdir()]
    served = [file.name for file in STATIC.iterdir() if file.is_file()]
    with tarfile.open(packed) as archive:
        names = sorted(name.removeprefix("package/") for name in archive.getnames())
        member = archive.extractfile("package/tokenwire.js")
        manifest = archive.extractfile("package/package.json")
        assert member is not None
        assert manifest is not None
        assert member.read() == (STATIC / "tokenwire.js").read_bytes()
        fields = json.load(manifest)
    assert names == sorted([*sources, *served, "LICENSE", "README.md", "package.json"])
    assert fields["version"] == tokenwire.__version__
    assert "private" not in fields
    assert "dependencies" not in fields
    entries = {name: entry for name, entry in fields["exports"].items() if isinstance(entry, dict)}
    for name, entry in entries.items():
        assert list(entry) == ["types", "default"], name
    exported = sorted(
        path.removeprefix("./") for entry in entries.values() for path in entry.values()
    )
    # What these load themselves is nobody else's to import.
    loaded = ["ai-sdk-message.js", "tokenwire-tab-lines.js", "tokenwire-tabs.js"]
    assert sorted([*exported, *loaded]) == sorted([*served, *sources])


def test_publint_has_nothing_to_say(packed: Path) -> None:
    folder = packed.parent / "package"
    assert "All good!" in run(bin_of("publint"), "--strict", folder)


def test_types_are_found_however_they_are_looked_for(packed: Path) -> None:
    run(bin_of("attw"), packed, "--profile", "esm-only")


@pytest.mark.parametrize("resolution", ["nodenext", "bundler"])
@pytest.mark.parametrize("consumer", ["consumer", "consumer-ai-sdk"])
def test_strict_types(consumer: str, resolution: str) -> None:
    node = with_package()
    project = node.folder / f"{consumer}-{resolution}"
    shutil.copytree(FOLDER / consumer, project, dirs_exist_ok=True)
    module = "nodenext" if resolution == "nodenext" else "esnext"
    run(
        bin_of("tsc"),
        *("--project", project, "--module", module, "--moduleResolution", resolution),
        cwd=project,
    )


def test_the_client_is_small() -> None:
    code = esbuild(STATIC / "tokenwire.js", "--minify", "--format=esm")
    assert len(gzip.compress(code.encode(), 9)) <= CORE_LIMIT


def test_imports_run_nothing() -> None:
    """Nothing of the package is left in a program that imports and does not use it."""
    node = with_package()
    names = ("tokenwire", "tokenwire/react", "tokenwire/ai-sdk")
    text = "".join(f'import "{name}";\n' for name in names) + 'console.log("done");\n'
    script = node.write("unused.mjs", text.encode())
    code = esbuild(script, "--bundle", "--format=esm", "--minify", "--log-level=error")
    assert code.strip() == 'console.log("done");'


def test_the_wheel_has_the_client_alone() -> None:
    names = {file.name for file in STATIC.iterdir() if file.is_file()}
    assert {"tokenwire.js", "tokenwire.d.ts", "ai-sdk.js", "ai-sdk.d.ts"} <= names
    assert not names & {"react.js", "package.json"}
