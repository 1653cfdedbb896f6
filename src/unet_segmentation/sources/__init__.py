"""Where data comes from: download, archives, the layout language, the embedded generator."""
