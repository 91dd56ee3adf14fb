"""In-context learners at the sizes of their papers."""
