"""The runtime on the real kernel: keeper, launchers, containerizer."""
