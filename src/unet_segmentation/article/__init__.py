"""The experiments behind docs/article.md: what the article claims, measured."""
