"""Pathfinder: do two discs lie on the same dashed curve? (Linsley et al. 2018, at the sizes of Tay et al. 2020,
`long_range_arena`; Path-X is the same on 128 × 128 pixels.)
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microtome.lab.tasks.long_range import growth
from microtome.lab.tasks.long_range.dash import Dash, pixel_disc
from microtome.lab.tasks.long_range.growth import Ground, Snake
from microtome.lab.tasks.long_range.protocol import (
    LabelledSequences,
    SequenceClassification,
    check_request,
    integers,
    whole,
)

GREYS = 256
TARGETS = 2
BRIGHTNESS = 2.0
"""Ink of a dash as thin as half a pixel comes out of the reduction at about one half."""


VISIBLE = 0.2
"""Ink above which a pixel counts as the snake's; a thin dash has about one half, its blur less."""


@dataclass(frozen=True)
class Drawing:
    """How a Pathfinder image is drawn; distances are in pixels.

    Attributes:
        size: side of the image.
        dashes: dashes of each of the two target snakes.
        distractors: further snakes, of `dashes` // 3 dashes, left out where there is no room.
        seed_distance: between the tails of the two targets; the first keeps twice as far from the border.
        disc: radius of the two discs.
        continuity: how straight snakes are: the factor of a turn's angle.
        contrast: of the target snakes; distractors have 1.
        length, thickness, margins: of a dash; the margin is drawn for each image.
    """

    size: int = 32
    dashes: int = 14
    distractors: int = 5
    seed_distance: int = 7
    disc: float = 1.5
    continuity: float = 1.0
    contrast: float = 0.75
    length: int = 2
    thickness: float = 0.5
    margins: tuple[int, ...] = (1,)

    def __post_init__(self):
        if self.dashes < 3:
            raise ValueError(f"dashes must be at least 3, so that distractors have one, not {self.dashes}.")
        if self.distractors < 0 or self.seed_distance < 1 or not self.margins:
            raise ValueError("a drawing needs distractors ≥ 0, seed_distance ≥ 1 and at least one margin.")
        reach = max(Dash(self.length, self.thickness, margin).half for margin in self.margins)
        if 2 * self.seed_distance < reach:
            raise ValueError(
                f"seed_distance must be at least {-(-reach // 2)}, so that a first dash stays inside the border, "
                f"not {self.seed_distance}."
            )
        if self.size <= 4 * self.seed_distance:
            raise ValueError(
                f"size must be above 4·seed_distance = {4 * self.seed_distance}, so that a tail finds a place, "
                f"not {self.size}."
            )


SMALL = Drawing(size=16, dashes=3, distractors=1, seed_distance=3, disc=1)
PATH_32 = Drawing()
PATH_X = Drawing(
    size=128,
    distractors=8,
    seed_distance=20,
    disc=3,
    continuity=1.8,
    contrast=0.9,
    length=5,
    thickness=1.5,
    margins=(2, 3),
)


@dataclass(frozen=True)
class Pictures:
    """Images with what was drawn in them.

    Attributes:
        images: [batch row column], grey levels in [0, 1].
        snakes: [batch snake row column], True where a target snake has ink, the discs not counted.
        discs: [batch disc 2], the centres, (row, column).
        labels: [batch], 1 where both discs lie at ends of the same snake.
    """

    images: Float[Tensor, "batch row column"]
    snakes: Bool[Tensor, "batch 2 row column"]
    discs: Int[Tensor, "batch 2 2"]
    labels: Int[Tensor, " batch"]


@dataclass(frozen=True)
class Pathfinder(SequenceClassification):
    """Images read row by row, one of 256 grey levels a token; labels are fair coins.

    Attributes:
        drawing: how images are drawn: `SMALL`, `PATH_32`, `PATH_X`, or options of one's own.
    """

    RETRIES: ClassVar[int] = 4
    """How often a distractor that finds no room is tried again."""
    LARGEST: ClassVar[int] = 1024
    """Images grown at once."""
    HOPELESS: ClassVar[int] = 20_000
    """Images tried in vain after which a drawing is called impossible."""

    drawing: Drawing = field(default=PATH_32)

    @property
    def length(self) -> int:
        return self.drawing.size**2

    @property
    def n_classes(self) -> int:
        return 2

    @property
    def d_vocab(self) -> int:
        return GREYS

    def sample(self, batch: int, generator: torch.Generator) -> LabelledSequences:
        """See `SequenceClassification.sample`."""
        drawn = self.draw(batch, generator)
        tokens = (drawn.images * (GREYS - 1)).round().long().flatten(1)
        return whole(tokens, drawn.labels)

    def draw(self, batch: int, generator: torch.Generator) -> Pictures:
        """Images and their parts. Raises as `sample`, and ValueError if snakes so long hardly ever find room."""
        check_request(batch, generator)
        which = integers(0, len(self.drawing.margins) - 1, (batch,), generator)
        drawn: list[tuple[Tensor, Pictures]] = []
        for i, margin in enumerate(self.drawing.margins):
            places = (which == i).nonzero()[:, 0]
            if len(places):
                drawn.append((places, self._with_margin(len(places), margin, generator)))
        order = torch.cat([places for places, _ in drawn]).argsort()
        parts = zip(*((p.images, p.snakes, p.discs, p.labels) for _, p in drawn), strict=True)
        return Pictures(*(torch.cat(part)[order] for part in parts))

    def _with_margin(self, batch: int, margin: int, generator: torch.Generator) -> Pictures:
        dash = Dash(self.drawing.length, self.drawing.thickness, margin)
        ground, snakes = self._targets(batch, dash, generator)
        ink = torch.stack([growth.ink(snake, ground.shape[-1], dash) for snake in snakes], dim=1)
        distractors = torch.zeros_like(ground)
        for _ in range(self.drawing.distractors):
            self._distract(ground, distractors, dash, generator)
        return self._finished(ink, distractors, snakes, dash, generator)

    def _targets(self, batch: int, dash: Dash, generator: torch.Generator) -> tuple[Ground, list[Snake]]:
        """The first `batch` images in which both target snakes found room: what is occupied, and the snakes."""
        found: list[tuple[Ground, Snake, Snake]] = []
        have, tried, size = 0, 0, min(4 * batch, self.LARGEST)
        while have < batch:
            ground, snakes = self._attempt(size, dash, generator)
            found.append((ground, *snakes))
            have, tried = have + len(ground), tried + size
            if have == 0 and tried > self.HOPELESS:
                raise ValueError(f"two snakes of {self.drawing.dashes} dashes found room in none of {tried} images.")
            size = min(2 * size, self.LARGEST)
        grounds, *snakes = zip(*found, strict=True)
        return torch.cat(grounds)[:batch], [_joined(each).take(torch.arange(batch)) for each in snakes]

    def _attempt(self, images: int, dash: Dash, generator: torch.Generator) -> tuple[Ground, list[Snake]]:
        """Target snakes in so many images; those in which one found no room are left out."""
        options = self.drawing
        ground = growth.blank(images, options.size, dash, generator.device)
        border = 2 * options.seed_distance
        tail = dash.reach + integers(border, options.size - 1 - border, (images, 2), generator)
        angle = growth.random_degrees(images, generator) * (torch.pi / 180)
        beside = (options.seed_distance * torch.stack((angle.sin(), angle.cos()), dim=1)).round().long()
        alive = torch.ones(images, dtype=torch.bool, device=ground.device)
        degrees = [growth.random_degrees(images, generator) for _ in range(TARGETS)]
        snakes = [growth.seed(tail + i * beside, degrees[i], alive, dash) for i in range(TARGETS)]
        for _ in range(options.dashes - 1):
            for i in range(TARGETS):
                snakes[i] = growth.extend(ground, snakes[i], dash, options.continuity, generator)
            alive = snakes[0].alive & snakes[1].alive
            if 2 * alive.sum() < len(alive):
                ground, snakes = ground[alive], [snake.take(alive) for snake in snakes]
        alive = snakes[0].alive & snakes[1].alive
        ground, snakes = ground[alive], [snake.take(alive) for snake in snakes]
        for snake in snakes:
            growth.finish(ground, snake, dash)
        return ground, snakes

    def _distract(self, ground: Ground, ink: Ground, dash: Dash, generator: torch.Generator) -> None:
        """Adds one short snake to the images, in place, wherever it finds room in a few tries."""
        waiting = torch.arange(len(ground), device=ground.device)
        for _ in range(1 + self.RETRIES):
            if len(waiting) == 0:
                break
            degree = growth.random_degrees(len(waiting), generator)
            before = ground[waiting]
            tail, some = growth.draw_cell(growth.room_to_begin(before, degree, dash), generator)
            snake, after = growth.seed(tail, degree, some, dash), before.clone()
            for _ in range(self.drawing.dashes // 3 - 1):
                snake = growth.extend(after, snake, dash, self.drawing.continuity, generator)
            growth.finish(after, snake, dash)
            grown = waiting[snake.alive]
            ground[grown] = after[snake.alive]
            ink[grown] = torch.maximum(ink[grown], growth.ink(snake.take(snake.alive), ink.shape[-1], dash))
            waiting = waiting[~snake.alive]

    def _finished(
        self, ink: Tensor, distractors: Ground, snakes: list[Snake], dash: Dash, generator: torch.Generator
    ) -> Pictures:
        """The images without their padding, with the two discs."""
        batch, cut = len(ink), slice(dash.reach, dash.reach + self.drawing.size)
        labels, origin = integers(0, 1, (batch,), generator), integers(0, 1, (batch,), generator)
        rows = torch.arange(batch, device=labels.device)
        tails, heads = (torch.stack([snake.places[:, end] for snake in snakes], dim=1) for end in (0, -1))
        discs = torch.stack((tails[rows, origin], heads[rows, torch.where(labels == 1, origin, 1 - origin)]), dim=1)
        grey = (BRIGHTNESS * torch.maximum(self.drawing.contrast * ink.amax(1), distractors)).clamp(max=1)
        around = discs[:, :, None] + pixel_disc(self.drawing.disc).to(discs.device)
        grey[rows[:, None, None], around[..., 0], around[..., 1]] = 1.0
        return Pictures(grey[:, cut, cut], ink[:, :, cut, cut] > VISIBLE, discs - dash.reach, labels)


def _joined(parts: tuple[Snake, ...]) -> Snake:
    """The snakes of several batches of images as one."""
    return Snake(*(torch.cat(each) for each in zip(*(vars(part).values() for part in parts), strict=True)))
