"""The test suites: unit, integration, e2e, fault and bench."""
