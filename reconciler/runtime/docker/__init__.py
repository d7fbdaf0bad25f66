"""The docker containerizer: the same spec converged on a Docker Engine."""
