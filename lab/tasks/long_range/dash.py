"""A dash of Pathfinder as tables: how it looks at every angle, and where the next one may end.

A dash is drawn on a grid twice as fine and reduced by Lanczos' filter. Its ground is the dash grown by the margin,
drawn likewise: cells that later dashes must leave free. Dashes begin on whole pixels and point in one of finitely many
directions, so that everything can be looked up.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation
from torch import Tensor

FINER = 2
DEGREES = 360


@dataclass(frozen=True)
class Dash:
    """Sizes in pixels: `length`, `thickness` (a multiple of one half), and the `margin` kept free around."""

    length: int = 2
    thickness: float = 0.5
    margin: int = 1

    def __post_init__(self):
        if self.length < 1 or self.margin < 1:
            raise ValueError(f"a dash needs length and margin of at least 1, not {self.length} and {self.margin}.")
        fine = self.thickness * FINER
        if fine < 1 or fine != round(fine):
            raise ValueError(f"thickness must be a positive multiple of {1 / FINER}, not {self.thickness}.")

    @property
    def half(self) -> int:
        """A stencil reaches so many pixels from the dash's beginning."""
        return self.length + math.ceil(self.thickness) + self.margin

    @property
    def reach(self) -> int:
        """How far beyond the image the growth of a snake looks: a pivot leaves it by the margin at most."""
        return self.length + 2 * self.margin + self.half


@dataclass(frozen=True)
class Tables:
    """Everything about one kind of dash. Offsets are (row, column), angles run from the column axis to the row axis.

    A shape is a dash that begins in the middle of its stencil: the first `DEGREES` of them point along each whole
    degree, as first dashes do; the others belong to an end each, and point from there back to the pivot.

    Attributes:
        ink: [shape side side], the dash, 0 to 1 and a little beyond, as Lanczos' filter has it.
        ground: [shape side side], the dash grown by its margin.
        seed_next: [degree 2], where the first pivot lies from a snake's tail.
        ends: [end 2], the pixel circle of radius length + margin about a pivot: where a dash may end.
        angle: [end], the direction from the pivot to that end, in radians.
        end_next: [end 2], where the next pivot lies from this one.
        disc: [cell 2], the pixels within the margin.
    """

    ink: Float[Tensor, "shape side side"]
    ground: Float[Tensor, "shape side side"]
    seed_next: Int[Tensor, "degree 2"]
    ends: Int[Tensor, "end 2"]
    angle: Float[Tensor, " end"]
    end_next: Int[Tensor, "end 2"]
    disc: Int[Tensor, "cell 2"]


@lru_cache(maxsize=32)
def tables(dash: Dash, device: torch.device) -> Tables:
    """The tables of a dash, made once."""
    degrees = torch.arange(DEGREES, dtype=torch.float64) * (math.pi / 180)
    radius, step = dash.length + dash.margin, dash.length + 2 * dash.margin
    ends = _circle(radius)
    angle = torch.atan2(*ends.double().unbind(1))
    ink, ground = _stencils(dash, torch.cat((degrees, angle + math.pi)))
    # A dash covers the last `length` pixels of its radius; so does the first, whose pivot lies behind its tail.
    seed_next = _offset(degrees, dash.length) - _offset(degrees, radius) + _offset(degrees, step)
    made = (ink, ground, seed_next, ends, angle.float(), _offset(angle, step), pixel_disc(dash.margin))
    return Tables(*(each.to(device) for each in made))


def pixel_disc(radius: float) -> Int[Tensor, "cell 2"]:
    """Offsets of the pixels whose centres lie within the radius."""
    side = torch.arange(-math.floor(radius), math.floor(radius) + 1)
    cells = torch.cartesian_prod(side, side)
    return cells[cells.square().sum(1) <= radius**2]


def _circle(radius: int) -> Int[Tensor, "end 2"]:
    """The pixels that a circle meets when it is walked in steps of one pixel, each once."""
    steps = torch.arange(0, 2 * math.pi, 1 / radius, dtype=torch.float64)
    return _offset(steps, radius).unique(dim=0)


def _offset(angle: Float[Tensor, " angle"], distance: int) -> Int[Tensor, "angle 2"]:
    return (distance * torch.stack((angle.sin(), angle.cos()), dim=1)).round().long()


def _stencils(dash: Dash, angles: Float[Tensor, " angle"]) -> tuple[Tensor, Tensor]:
    """Ink and ground, [angle side side]."""
    grown = _disc_image(dash.margin * FINER)
    inks, grounds = [], []
    for angle in angles.tolist():
        fine = _line(dash, angle)
        inks.append(_reduced(fine))
        grounds.append(_reduced(binary_dilation(fine, grown).astype(np.float32)))
    return torch.from_numpy(np.stack(inks)), torch.from_numpy(np.stack(grounds))


def _line(dash: Dash, angle: float) -> np.ndarray:
    centre = dash.half * FINER
    image = Image.new("F", (2 * centre + 1, 2 * centre + 1))
    along = dash.length * FINER
    head = (round(centre + along * math.cos(angle)), round(centre + along * math.sin(angle)))
    ImageDraw.Draw(image).line([(centre, centre), head], fill=1.0, width=round(dash.thickness * FINER))
    return np.asarray(image)


def _reduced(fine: np.ndarray) -> np.ndarray:
    side = (len(fine) - 1) // FINER + 1
    return np.array(Image.fromarray(fine).resize((side, side), Image.Resampling.LANCZOS)).clip(min=0)


def _disc_image(radius: int) -> np.ndarray:
    side = np.arange(-radius, radius + 1)
    return side[:, None] ** 2 + side**2 <= radius**2
