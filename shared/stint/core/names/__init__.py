"""Every name on the wire: of queues, jobs, streams, subjects, headers and labels. No other room contains one.

What the named things contain is elsewhere: events in `stint.core`, streams' settings in
`stint.jetstream.streams.topology`.
"""
