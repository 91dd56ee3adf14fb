"""Maps the four top-level folders to `microtome.<folder>`; everything else is declared in pyproject.toml."""

from setuptools import find_packages, setup

FLOORS = ("kernels", "lab", "probes", "theory")

setup(
    packages=[
        f"microtome.{package}" for floor in FLOORS for package in (floor, *(f"{floor}.{p}" for p in find_packages(floor)))
    ],
    package_dir={f"microtome.{floor}": floor for floor in FLOORS},
    include_package_data=False,
    package_data={"": ["*.toml", "*.html", "*.css", "py.typed"]},
)
