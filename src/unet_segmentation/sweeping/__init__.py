"""Many trainings on the same prepared data: declared variants side by side, and a search for the best parameters."""
