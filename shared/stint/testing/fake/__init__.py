"""`FakeStint`: what an API answers a client, made up in memory. Nothing runs, and nothing is stored."""
