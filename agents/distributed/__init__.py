"""Beyond one machine: many runs, and one run of many processes."""
