"""Checks of a data set before training, and what follows from them."""
