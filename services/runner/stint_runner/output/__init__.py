"""What comes out of a container: chunked, chained, masked and stored."""
