"""The measurements behind the numbers of the README. Each prints a table; ratios are taken within one run."""
