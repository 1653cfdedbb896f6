"""Export bundles and their parity check."""
