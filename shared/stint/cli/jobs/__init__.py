"""Commands about jobs: they submit them, show them, and act on them."""
