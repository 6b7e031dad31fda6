"""One module per upstream dataset format; the name of the module is the name in the spec."""
