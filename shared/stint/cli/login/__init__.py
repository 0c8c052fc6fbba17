"""`stint login`: the command, and the address on this machine to which the provider sends the browser back."""
