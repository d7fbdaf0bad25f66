"""System call filters: profiles in Docker's format, settled for one container and compiled to what the kernel loads."""
