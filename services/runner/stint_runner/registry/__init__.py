"""Images by their names, and the logins of the registries that they come from."""
