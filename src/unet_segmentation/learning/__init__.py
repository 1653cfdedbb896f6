"""Learning: networks, losses, augmentation, batches and the training itself. No Kedro and no MLflow in here."""
