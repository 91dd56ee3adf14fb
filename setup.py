"""Maps the four top-level folders to `microtome.<folder>`; everything else is declared in pyproject.toml."""

from setuptools import find_packages, setup

FLOORS = ("kernels", "lab", "probes", "theory")
ROOMS = [f"{floor}.{room}" for floor in FLOORS for room in find_packages(floor)]

setup(
    packages=[f"microtome.{package}" for package in (*FLOORS, *ROOMS)],
    package_dir={f"microtome.{floor}": floor for floor in FLOORS},
    include_package_data=False,
    package_data={"": ["*.toml", "*.html", "*.css"]},
)
