"""From files to packed samples: ingestion, layouts, readers, preparation, audit, split, store."""
