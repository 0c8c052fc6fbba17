"""What goes into a container: the opened payload, secrets, content, and the container's specification."""
