"""The projector: folds the event log into the queryable view, ends lost jobs, and removes what is over."""
