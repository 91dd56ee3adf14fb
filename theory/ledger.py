"""Verdicts that outlive the process: one JSON file a slug, written whole or not at all."""

import os
import re
from pathlib import Path

from microtome.theory.evidence import Evidence

_SLUG = re.compile(r"[a-z0-9_]+")


def default_folder() -> Path:
    """Where results go unless told otherwise: `$MICROTOME_RUNS`, or `runs` in the working directory."""
    return Path(os.environ.get("MICROTOME_RUNS") or "runs")


def write(slug: str, evidence: Evidence, folder: Path | str | None = None) -> Path:
    """Stores the evidence (without its figure) as the last word on a paper, and returns the file.

    A reader sees either the previous file or this one, never a half-written one. `folder` is the results folder, by
    default `default_folder()`. Raises ValueError for a slug that is not made of a-z, 0-9 and _.
    """
    path = _path(slug, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_text(evidence.to_json(), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read(slug: str, folder: Path | str | None = None) -> Evidence | None:
    """The stored evidence, or None where there is no file or the file cannot be read as evidence.

    Raises ValueError for a slug that is not made of a-z, 0-9 and _.
    """
    path = _path(slug, folder)
    try:
        return Evidence.from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def read_all(folder: Path | str | None = None) -> dict[str, Evidence]:
    """Every readable verdict of a results folder, by slug; empty where there is none."""
    slugs = [file.stem for file in sorted(_folder(folder).glob("*.json")) if _SLUG.fullmatch(file.stem)]
    stored = {slug: read(slug, folder) for slug in slugs}
    return {slug: evidence for slug, evidence in stored.items() if evidence is not None}


def _folder(folder: Path | str | None) -> Path:
    return (default_folder() if folder is None else Path(folder)) / "verdicts"


def _path(slug: str, folder: Path | str | None) -> Path:
    if _SLUG.fullmatch(slug) is None:
        raise ValueError(f"slug {slug!r} cannot name a verdict; allowed are the characters a-z, 0-9 and _")
    return _folder(folder) / f"{slug}.json"
