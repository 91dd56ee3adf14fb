"""The built wheel, installed in an environment of its own, away from the source tree."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("kernels", "lab", "probes", "theory")
METADATA = ("pyproject.toml", "setup.py", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def source_files() -> set[str]:
    """Everything in the four folders that a user needs, as paths below `microtome/`."""
    files = (path for floor in FLOORS for path in (ROOT / floor).rglob("*") if path.is_file())
    return {
        str(path.relative_to(ROOT))
        for path in files
        if path.suffix not in (".pyc", ".md") and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the tree and parallel runs do not meet."""
    source = tmp_path_factory.mktemp("source")
    for name in METADATA:
        shutil.copy(ROOT / name, source)
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, source / floor, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", cwd=source)
    (built,) = (source / "dist").glob("microtome-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and behind it the packages that are installed here.

    The second directory is named in a `.pth` file: Python then reads packages from it but not its own `.pth`
    files, so that the editable install of this tree stays out.
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    run(*pip, wheel, cwd=folder.parent)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder.parent)
    Path(site.stdout.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working directory where another package is called `kernels`."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("raise RuntimeError('the decoy was imported')")
    return tmp_path


def test_wheel_holds_every_file_of_the_floors_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"microtome/{name}" for name in source_files()}
    assert "microtome/lab/zoo/papers.toml" in names


@pytest.mark.parametrize("module", ["kernels", "lab", "probes", "theory", "lab.cli", "lab.zoo.registry"])
def test_modules_come_from_the_wheel(environment: Path, elsewhere: Path, module: str) -> None:
    script = f"import microtome.{module} as module; print(module.__file__)"
    done = run(environment / "bin" / "python", "-c", script, cwd=elsewhere, PYTHONPATH=str(elsewhere))
    assert Path(done.stdout.strip()).is_relative_to(environment)


def test_command_runs_beside_a_decoy(environment: Path, elsewhere: Path) -> None:
    done = run(environment / "bin" / "microtome", "--help", cwd=elsewhere, PYTHONPATH=str(elsewhere))
    assert "Usage: microtome" in done.stdout


def test_papers_are_found_in_the_wheel(environment: Path, elsewhere: Path) -> None:
    script = "from microtome.lab.zoo.registry import papers; print(len(papers()))"
    done = run(environment / "bin" / "python", "-c", script, cwd=elsewhere, PYTHONPATH=str(elsewhere))
    assert done.stdout.strip() == "68"
