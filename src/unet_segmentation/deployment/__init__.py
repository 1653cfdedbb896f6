"""What leaves the project: exported models, releases, the server."""
