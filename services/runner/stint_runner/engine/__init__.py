"""The port to a container engine, and Docker behind it."""
