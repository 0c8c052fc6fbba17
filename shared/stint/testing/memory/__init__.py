"""The broker's ports in memory, for tests that need no server. They pass the same contract suite as JetStream."""
