"""Networks in this process or in a child process."""
