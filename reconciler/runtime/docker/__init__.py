"""The docker containerizer: the same specs, converged on a Docker Engine."""
