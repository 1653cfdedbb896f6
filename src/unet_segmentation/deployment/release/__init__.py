"""Release: candidates, model verification and the promotion gate."""
