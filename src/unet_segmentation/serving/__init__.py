"""A model behind an address: what it takes and answers (these modules travel with it), its process, the server."""
