"""Who may import whom: read from the source, so that no import at run time can hide."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((*(ROOT / "builder").rglob("*.py"), *(ROOT / "roles").rglob("*.py")))

# The pure middle: values in, values out.
PURE = (
    *(ROOT / "builder" / "resources").glob("*.py"),
    *(ROOT / "roles").rglob("*.py"),
    *(
        ROOT / "builder" / "engine" / f"{name}.py"
        for name in (
            "desired",
            "diff",
            "graph",
            "judge",
            "ledger",
            "leftovers",
            "manifest",
            "plan",
            "render",
            "schedule",
            "script",
        )
    ),
    *(
        ROOT / "builder" / f"{name}.py"
        for name in ("debian", "diagnostics", "errors", "ports", "role")
    ),
    *(
        ROOT / "builder" / "spec" / f"{name}.py"
        for name in ("check", "model", "schema", "section", "tree", "types", "validate")
    ),
    ROOT / "builder" / "security" / "scram.py",
    ROOT / "builder" / "security" / "secret.py",
)
IO = (
    "fcntl",
    "glob",
    "http",
    "multiprocessing",
    "os",
    "paramiko",
    "pyrage",
    "requests",
    "select",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "vagrant",
    "urllib.request",
)


def imports(module: Path) -> Iterator[tuple[str, int]]:
    """(full name, line); inside functions too, but not what only a type checker reads."""
    tree = ast.parse(module.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def who_imports(package: str) -> set[str]:
    return {
        str(module.relative_to(ROOT))
        for module in MODULES
        for name, _ in imports(module)
        if name.split(".")[0] == package
    }


def texts_with(words: str) -> set[str]:
    return {
        str(m.relative_to(ROOT)) for m in MODULES if words in m.read_text() and "builder" in m.parts
    }


def test_the_engine_knows_no_role_by_name() -> None:
    assert {m for m in who_imports("roles") if m.startswith("builder")} == set()
    assert texts_with('import_module("roles') == {"builder/registry.py"}
    assert texts_with('import_module(f"roles') == {"builder/registry.py"}


def test_only_the_transport_talks_ssh() -> None:
    found = {m for m in who_imports("paramiko") if not m.startswith("builder/transport/")}
    assert found == {"builder/machines/vagrant/provider.py"}
    names = {n for module in found for n, _ in imports(ROOT / module) if "paramiko" in n}
    assert names == {"paramiko.SSHConfig"}, "they only read what ssh_config says"


def test_only_providers_of_machines_start_programs() -> None:
    found = {m for m in who_imports("subprocess") if not m.startswith("builder/machines/")}
    assert found == {"builder/cli/ssh.py", "builder/cli/psql.py"}, "a person's own shell"
    starters = ("os.system(", "os.popen(", "os.exec", "os.spawn")
    assert set().union(*(texts_with(starter) for starter in starters)) == set()


@pytest.mark.parametrize("module", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_pure_middle_does_no_io(module: Path) -> None:
    found = [
        f"{module.name}:{line} {name}"
        for name, line in imports(module)
        if any(f"{name}.".startswith(f"{io}.") for io in IO)
    ]
    assert found == []
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"open", "print", "input"}
    ]
    assert calls == []


@pytest.mark.parametrize("module", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_pure_middle_asks_no_clock(module: Path) -> None:
    """Now is given: what depends on it can be tested, and two looks see the same moment."""
    text = module.read_text()
    assert "datetime.now(" not in text
    assert "date.today(" not in text


def test_the_engine_and_the_resources_know_no_command_line() -> None:
    for module in MODULES:
        if module.parent.name != "cli" and "builder" in module.parts:
            found = {n for n, _ in imports(module) if n.startswith(("builder.cli", "argparse"))}
            allowed = module.name == "__main__.py"
            assert not found or allowed, module


def test_what_prints_or_exits_is_a_front_end() -> None:
    """Exceptions and the engine print nothing: whoever calls them decides who reads it."""
    for module in MODULES:
        if {"cli", "terraform"} & set(module.parts) or module.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"print", "sys.exit"}, (module, node.lineno)
