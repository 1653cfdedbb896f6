"""What at least three packages share."""
