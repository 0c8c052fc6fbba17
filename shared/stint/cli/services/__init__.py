"""Commands for whoever runs Stint: they start its services, and set up and look at what these need."""
