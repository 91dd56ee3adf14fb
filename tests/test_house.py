"""The laws of the house: what the source tree promises, whichever room a change is in."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

ROOT = Path(__file__).parent.parent
FLOORS = ("kernels", "lab", "probes", "theory")  # from the ground up
LONGEST = 400  # lines

SOURCE = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
OTHER = sorted(path for folder in ("tests", "benchmarks", "notebooks") for path in (ROOT / folder).rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
ROOT_FILES = sorted(path for path in ROOT.iterdir() if path.is_file())

# A class in each, so that this file does not match itself.
LOCAL_PLACES = re.compile(r"\.\./share[d]|/wor[k]/|/roo[t]/|/hom[e]/|file:/[/]|\b(?:\d{1,3}\.){3}\d{1,3}:\d")
VAGUE_NAMES = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every name imported anywhere below a node; a quoted `microtome.…` counts, whoever imports it."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                yield from (f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names)
            case ast.Constant(value=str(text)) if re.fullmatch(r"microtome(\.\w+)+", text):
                yield text


def imports_on_import(tree: ast.AST) -> Iterator[str]:
    """The names imported when a module is imported, so all but those in the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imports(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_on_import(node)


def looks_up(name: str, floor: str) -> bool:
    root, *rest = name.split(".")
    return root == "microtome" and rest[0] in FLOORS and FLOORS.index(rest[0]) > FLOORS.index(floor)


def breaches(path: Path) -> list[str]:
    """What one source file does against the laws of imports."""
    place, tree = path.relative_to(ROOT), ast.parse(path.read_text())
    first = list(imports_on_import(tree))
    # The front door leads to every floor, but it opens a floor inside the command that needs it.
    seen = first if place == Path("lab/cli.py") else list(imports(tree))
    found = [f"{place} looks up to {name}" for name in seen if looks_up(name, place.parts[0])]
    found += [f"{place} imports relatively: {name}" for name in seen if name.startswith(".")]
    if place.parts[:2] != (
        "lab",
        "zoo",
    ):  # models are TransformerLens modules; nobody else may cost its seconds
        found += [f"{place} imports {name} at once" for name in first if name.startswith("transformer_lens")]
    return found


def test_imports_go_down_only_and_transformer_lens_waits() -> None:
    assert [breach for path in SOURCE for breach in breaches(path)] == []


@pytest.mark.parametrize(
    "text",
    [
        "from microtome.theory import claims",
        "def f():\n    import microtome.theory.claims",
        "import_module('microtome.theory.claims')",
        "class A:\n    if True:\n        from transformer_lens import HookPoint",
        "from . import bayes",
    ],
)
def test_a_breach_is_seen(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "probes").mkdir()
    path = tmp_path / "probes" / "entropy.py"
    path.write_text("def f():\n    from transformer_lens import patching\nfrom microtome.lab import tasks")
    assert breaches(path) == []
    path.write_text(text)
    assert len(breaches(path)) == 1


def test_files_are_short_and_named_for_what_they_do() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCE + OTHER}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
    assert [name for name in lines if Path(name).name in VAGUE_NAMES] == []


def test_no_text_names_a_place_outside_the_repository() -> None:
    texts = {path: path.read_text() for path in SOURCE + OTHER + NOTEBOOKS + ROOT_FILES}
    found = {str(path.relative_to(ROOT)): LOCAL_PLACES.findall(text) for path, text in texts.items()}
    assert {name: places for name, places in found.items() if places} == {}


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in SOURCE}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_help_loads_no_heavy_package() -> None:
    script = (
        "import sys\n"
        "from microtome.lab.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code in (0, None), end.code\n"
        "heavy = {'torch', 'transformer_lens', 'numpy', 'matplotlib', 'polars'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_annotated_shapes_are_checked_at_run_time() -> None:
    from microtome.kernels.softmax import attention

    q = torch.zeros(1, 2, 3, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="attention"):
        attention(q, torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 3, 4))
