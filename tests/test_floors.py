"""The rules of the architecture: imports only go down, and each library is used in one place."""

import ast
import functools
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "netkit"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path.parent.name != "benchmarks")

SHARED = {"netkit", "netkit.cli", "netkit.output"}
# From the top down. A file may import from its own floor and from those below: docs/ARCHITECTURE.md.
FLOORS = ["__main__", "commands", "cli", "output", "services", "protocols", "core"]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path: Path, *, top_level_only: bool = False) -> tuple[str, ...]:
    """Return the modules that a file imports, also in functions, for type checking, and by their names in strings."""
    found: list[str] = []
    for node in parsed(path).body if top_level_only else ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found += (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        elif isinstance(node, ast.Constant) and re.fullmatch(r"netkit(\.\w+)+", str(node.value)):
            found.append(str(node.value).rpartition(".")[0])
    return tuple(found)


def room(module: str) -> str | None:
    """Return the floor of a module of netkit."""
    parts = module.split(".")
    return parts[1] if parts[0] == "netkit" and len(parts) > 1 else None


def of(path: Path) -> str:
    """Return the dotted name of a file, ``netkit.core.stream``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=of)
def test_imports_only_go_down(path: Path) -> None:
    """No file imports from a floor above its own, not even in a function or for a type."""
    own = room(of(path))
    if own is None:
        return
    for module in imports(path):
        target = room(module)
        if target in FLOORS:
            assert FLOORS.index(target) >= FLOORS.index(own), f"{of(path)} imports {module}, which is above it"


def test_no_files_import_each_other() -> None:
    """There are no circular imports, not even within a floor."""
    names = {of(path) for path in FILES}
    graph = {of(path): {m for m in imports(path) if m in names and m != of(path)} for path in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError has the files of a circle


# Where each library may be imported: in these packages and files.
ROOMS: dict[str, tuple[str, ...]] = {
    "asyncio": (),
    "logging": (),
    "click": ("cli", "commands"),
    "rich": ("output.terminal",),
    "dns": ("protocols.dns", "protocols.probes.dns"),
    "h11": ("protocols.http", "protocols.proxy_server"),
    "h2": ("protocols.probes.grpc",),
    "socksio": ("protocols.socks",),
    "ssl": ("core.tls", "core.tls_context"),
    "cryptography": ("protocols.self_signed",),
    "subprocess": ("cli.pager", "services.exec", "services.process"),
}
LATE = {"h2", "ssl", "cryptography"}  # imported in functions alone


@pytest.mark.parametrize("path", FILES, ids=of)
def test_libraries_keep_to_their_rooms(path: Path) -> None:
    """Each library is only imported in its place, such as click in cli and commands; asyncio and logging nowhere."""
    for library in ROOMS.keys() & {module.split(".")[0] for module in imports(path)}:
        assert f"{of(path)}.".startswith(tuple(f"netkit.{room}." for room in ROOMS[library])), library
    assert not LATE & {module.split(".")[0] for module in imports(path, top_level_only=True)}


@pytest.mark.parametrize("path", sorted((PACKAGE / "commands").glob("*.py")), ids=of)
def test_commands_are_thin(path: Path) -> None:
    """A command only imports click and shared modules at its top, has no ``try``, and its docstring has its section."""
    if path.name == "__init__.py":
        return
    for module in imports(path, top_level_only=True):
        allowed = module.split(".")[0] in {"click", "typing"} or ".".join(module.split(".")[:2]) in SHARED
        assert allowed, f"{of(path)} imports {module} at its top"
    tree = parsed(path)
    assert not any(isinstance(node, ast.Try) for node in ast.walk(tree))
    section, colon, summary = (ast.get_docstring(tree) or "").splitlines()[0].partition(": ")
    assert section in {"Talk", "Serve", "Look", "Bytes", "More"} and colon
    assert summary[0].islower()


def test_core_is_the_standard_library_alone() -> None:
    """The core only imports the standard library, and idna for names that are not ASCII."""
    import sys

    assert "idna" not in set(imports(PACKAGE / "core" / "address.py", top_level_only=True))
    for path in (PACKAGE / "core").glob("*.py"):
        for module in imports(path):
            top = module.split(".")[0]
            if (of(path), top) == ("netkit.core.address", "idna"):
                continue
            assert top in {"netkit", "_thread"} or top in sys.stdlib_module_names, f"{of(path)} imports {module}"


def test_no_test_is_imported_by_another() -> None:
    """No test imports another test; shared code is in tests/support."""
    for path in TESTS:
        for module in re.findall(r"^\s*(?:from|import) (tests\S*)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert not module.split(".")[-1].startswith("test_"), f"{of(path)} imports {module}"


SECONDS = r"(?:0?\.\d+|[1-4](?:\.\d+)?)\)"  # below 5 s; a timeout that ends a hanging test is longer
PAUSES = (
    rf"time\.sleep\(|wait\((timeout=)?{SECONDS}|settimeout\({SECONDS}|select\(.*\], {SECONDS}",
    r"monotonic\(\) - \w+ [<>]",
)


def test_no_test_sleeps() -> None:
    """Tests wait for events instead of sleeping, and do not judge by elapsed time."""
    for path in TESTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not any(re.search(pause, line) for pause in PAUSES), f"{path}:{number} sleeps: {line.strip()}"
