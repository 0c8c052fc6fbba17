"""The projector: folds the event log into the queryable view, and removes what is over."""
