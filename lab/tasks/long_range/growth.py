"""Growing Pathfinder's snakes, a batch of images at a time.

All images take a step together. Only the occupied cells are kept while snakes grow; dashes are noted by place and
shape, and drawn once it is known that they stay. The canvas is padded on all sides by cells that count as occupied, so
that no step looks outside.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.lab.tasks.long_range.dash import DEGREES, Dash, Tables, tables
from microtome.lab.tasks.long_range.protocol import integers

OVERLAP = 1.8
"""Two grounds of up to 1 overlap where their sum reaches this: where both are nearly full, not where two edges meet."""
TRIES = 3

Ground = Float[Tensor, "image row column"]
Cells = Int[Tensor, "image 2"]


@dataclass(frozen=True)
class Snake:
    """One snake in every image.

    Attributes:
        places: [image dash 2], where each dash begins: the first at the tail, the others at their far ends.
        shapes: [image dash], of each dash, as `Tables` numbers them.
        pivot: [image 2], the point about which the next dash turns.
        angle: [image], direction of the newest dash, in radians.
        alive: [image], False once a dash found no room.
    """

    places: Int[Tensor, "image dash 2"]
    shapes: Int[Tensor, "image dash"]
    pivot: Cells
    angle: Float[Tensor, " image"]
    alive: Bool[Tensor, " image"]

    def take(self, chosen: Tensor) -> "Snake":
        """The snakes of the images that an index or a mask chooses."""
        return Snake(*(each[chosen] for each in vars(self).values()))


def blank(images: int, size: int, dash: Dash, device: torch.device) -> Ground:
    """Empty images of `size` pixels square; their outermost pixels and the padding are occupied."""
    side = size + 2 * dash.reach
    ground = torch.ones(images, side, side, device=device)
    inner = dash.reach + 1
    ground[:, inner : side - inner, inner : side - inner] = 0
    return ground


def seed(tail: Cells, degree: Int[Tensor, " image"], alive: Bool[Tensor, " image"], dash: Dash) -> Snake:
    """Snakes of one dash, from the tail along a whole degree."""
    pivot = tail + tables(dash, tail.device).seed_next[degree]
    return Snake(tail[:, None], degree[:, None], pivot, degree * (torch.pi / 180), alive)


def extend(ground: Ground, snake: Snake, dash: Dash, continuity: float, generator: torch.Generator) -> Snake:
    """Adds a dash to a snake in every image, and occupies the one before it, which the new one may touch.

    The dash ends on one of the pixels about the pivot, with a probability in proportion to free(cell) ·
    max(cos(min(c·|Δθ|, π/2)), 0)². It is drawn again, at most `TRIES` times in all, if it overlaps what is occupied.
    """
    table = tables(dash, ground.device)
    weights = _weights(ground, snake, table, continuity)
    alive = snake.alive & (weights.sum(1) > 1e-4)
    ends = torch.multinomial(torch.where(alive[:, None], weights, 1.0), TRIES, replacement=True, generator=generator)
    fits = torch.stack([_fits(ground, snake, table, end) for end in ends.T], dim=1)
    alive &= fits.any(1)
    end = ends.gather(1, fits.int().argmax(1, keepdim=True))[:, 0]
    stamp(ground, snake.places[:, -1], table.ground[snake.shapes[:, -1]])
    # A snake that has died stays where it is: it must not wander off the canvas.
    moved = torch.where(alive[:, None], snake.pivot + table.end_next[end], snake.pivot)
    return Snake(
        torch.cat((snake.places, (snake.pivot + table.ends[end])[:, None]), dim=1),
        torch.cat((snake.shapes, DEGREES + end[:, None]), dim=1),
        moved,
        table.angle[end],
        alive,
    )


def finish(ground: Ground, snake: Snake, dash: Dash) -> None:
    """Occupies the newest dash too."""
    stamp(ground, snake.places[:, -1], tables(dash, ground.device).ground[snake.shapes[:, -1]])


def ink(snake: Snake, side: int, dash: Dash) -> Ground:
    """The snake of every image on an empty canvas with `side` cells a side."""
    drawn = torch.zeros(len(snake.pivot), side, side, device=snake.pivot.device)
    for place, shape in zip(snake.places.unbind(1), snake.shapes.unbind(1), strict=True):
        stamp(drawn, place, tables(dash, drawn.device).ink[shape])
    return drawn


def room_to_begin(ground: Ground, degree: Int[Tensor, " image"], dash: Dash) -> Bool[Tensor, "image row column"]:
    """Where a first dash of this direction may begin without overlapping what is occupied."""
    stencil = (tables(dash, ground.device).ground[degree] > OVERLAP - 1).float()
    occupied = (ground > OVERLAP - 1).float()
    met = F.conv2d(occupied[None], stencil[:, None], padding=stencil.shape[-1] // 2, groups=len(ground))[0]
    return (met < 0.5) & (occupied < 0.5)


def draw_cell(allowed: Bool[Tensor, "image row column"], generator: torch.Generator) -> tuple[Cells, Tensor]:
    """A uniform allowed cell of every image, and whether there is one; else the cell is that in the middle."""
    flat = allowed.flatten(1).float()
    some = flat.any(1)
    cell = torch.multinomial(torch.where(some[:, None], flat, 1.0), 1, generator=generator)[:, 0]
    cells = torch.stack((cell // allowed.shape[2], cell % allowed.shape[2]), dim=1)
    return torch.where(some[:, None], cells, allowed.shape[2] // 2), some


def random_degrees(images: int, generator: torch.Generator) -> Int[Tensor, " image"]:
    """A uniform whole degree for each image."""
    return integers(0, DEGREES - 1, (images,), generator)


def stamp(layer: Ground, centre: Cells, stencil: Float[Tensor, "image side side"]) -> None:
    """Lays a stencil over each image, in place: the darker of the two stays."""
    window = _window(centre, stencil.shape[-1])
    layer[window] = torch.maximum(layer[window], stencil)


def _weights(ground: Ground, snake: Snake, table: Tables, continuity: float) -> Float[Tensor, "image end"]:
    cells = snake.pivot[:, None] + table.ends
    near = cells[:, :, None] + table.disc
    image = torch.arange(len(cells), device=cells.device)[:, None, None]
    free = 1 - ground[image, near[..., 0], near[..., 1]].amax(2).clamp(max=1)
    turn = (table.angle - snake.angle[:, None]).abs() % (2 * torch.pi)
    turn = torch.minimum(turn, 2 * torch.pi - turn)
    return free * (continuity * turn).clamp(max=torch.pi / 2).cos().clamp(min=0).square()


def _fits(ground: Ground, snake: Snake, table: Tables, end: Int[Tensor, " image"]) -> Bool[Tensor, " image"]:
    stencil = table.ground[DEGREES + end]
    under = ground[_window(snake.pivot + table.ends[end], stencil.shape[-1])]
    return (under + stencil).amax((1, 2)) < OVERLAP


def _window(centre: Cells, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the square of cells about a centre in every image."""
    around = torch.arange(side, device=centre.device) - side // 2
    image = torch.arange(len(centre), device=centre.device)[:, None, None]
    return image, (centre[:, :1] + around)[:, :, None], (centre[:, 1:] + around)[:, None, :]
