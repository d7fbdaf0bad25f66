"""Everything that touches the kernel or an engine."""
