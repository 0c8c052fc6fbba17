"""The API: turns HTTP into facts, and facts into answers."""
