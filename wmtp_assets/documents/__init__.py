"""Documents that are generated from manifests and specs. No number in them is written by hand."""
