"""The loop room: pure decisions on values, and the reconciler in a virtual world."""
