"""Vision systems at the sizes of their papers."""
