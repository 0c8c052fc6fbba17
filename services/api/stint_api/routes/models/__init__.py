"""Bodies of requests and answers. Fields that are parsed or stored as a struct are declared there, once."""
