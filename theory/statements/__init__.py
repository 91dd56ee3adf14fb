"""Statements of the papers and the evidence for them. Each module bears a slug and declares a tuple `CLAIMS`."""
