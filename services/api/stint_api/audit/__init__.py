"""Who did what in which queue, as the events say. It keeps an index of the log; single jobs are in `read`."""
