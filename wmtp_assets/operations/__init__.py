"""One module per verb that people type."""
