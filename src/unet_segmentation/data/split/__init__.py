"""Train, validation and test splits; k folds."""
