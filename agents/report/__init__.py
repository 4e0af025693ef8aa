"""A report of runs: one page that opens offline in any browser."""
