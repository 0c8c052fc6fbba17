"""The index of all jobs: a table that follows the views, lists from it, and the stream of its changes."""
