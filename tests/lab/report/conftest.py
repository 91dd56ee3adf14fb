"""What the tests of this room share."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def untyped() -> Iterator[None]:
    """Turns the run-time check of annotations off, as it is for a user: the sentences of the room itself are heard."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
