"""What tests share: servers, registries and engines to start, clients, and builders of events and jobs.

No test stands here, and nothing here imports one.
"""
