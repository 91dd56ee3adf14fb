"""Distribution transformers (Whittle et al. 2025, distribution_transformers): a prior and data in, a posterior out."""
