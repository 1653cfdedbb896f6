"""Many training runs on the same data: sweeps, search, run comparison, reproduction, an article's claims."""
