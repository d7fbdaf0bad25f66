"""The reconciliation loop: a pure core, and the workers that carry a plan out."""
