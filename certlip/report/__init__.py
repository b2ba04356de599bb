"""Results for people and machines: JSON objects, terminal tables, HTML for notebooks."""
