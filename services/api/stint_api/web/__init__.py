"""HTTP itself: the server, its connections and their limits, streamed answers. Nothing here knows a job."""
