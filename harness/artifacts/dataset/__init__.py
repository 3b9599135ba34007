"""Training rows: read strictly, and judged for the defects that generated data sets have."""
