"""Tables in files: recorded outcomes, benchmark results, exported decisions."""
