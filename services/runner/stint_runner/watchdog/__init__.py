"""The process beside each runner that ends jobs past their deadline, and what both of them share on disk."""
