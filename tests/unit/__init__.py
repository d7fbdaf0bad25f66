"""Pure code: no kernel, no processes, no clock."""
