"""Floor 4: statements and evidence: proofs, bounds, constructions, and one claim per paper."""
