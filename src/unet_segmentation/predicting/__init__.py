"""From an image to class probabilities, and what is made of them. Only `eager` and the exports import torch."""
