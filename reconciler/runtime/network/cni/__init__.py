"""Networks made by plugins of the Container Network Interface, versions 0.3.0 to 1.0.0 of its specification."""
